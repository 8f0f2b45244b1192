//! What can be set, to what, and how.

/// One setting of the machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Stable, for programs: `interrupt.38.affinity`.
    pub id: String,
    /// What it is about, where the id does not tell; may be empty.
    pub about: String,
    pub current: String,
    /// Equal to `current` where nothing needs to change.
    pub proposed: String,
    /// One sentence.
    pub reason: String,
    pub how: How,
}

/// How a setting is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum How {
    /// It needs no change.
    Nothing,
    /// By writing a text into a file of the kernel, which `apply` does.
    Write { file: String, text: String },
    /// By the operator: another program's business, or a matter of taste.
    ByHand(String),
}

impl Setting {
    pub fn new(id: &str, current: &str, proposed: &str, reason: &str, how: How) -> Self {
        let how = if current == proposed { How::Nothing } else { how };
        let own = str::to_owned;
        Self { id: own(id), about: String::new(), current: own(current), proposed: own(proposed), reason: own(reason), how }
    }

    /// A setting that a file of the kernel has.
    pub fn write(id: &str, current: &str, proposed: &str, reason: &str, file: String) -> Self {
        Self::new(id, current, proposed, reason, How::Write { file, text: proposed.to_owned() })
    }

    /// A setting that is right as it is.
    pub fn fine(id: &str, current: &str, reason: &str) -> Self {
        Self::new(id, current, current, reason, How::Nothing)
    }

    pub fn about(self, about: String) -> Self {
        Self { about, ..self }
    }

    pub fn changes(&self) -> bool {
        self.how != How::Nothing
    }
}
