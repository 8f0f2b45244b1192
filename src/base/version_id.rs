//! Which version of an object? The id of one: 8 bytes of time and 8 of chance, so that ids of one key sort by when they were given.

use std::fmt;

/// The id of a version. Of two of one key the greater is the newer. Clients see 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VersionId {
    time_ns: u64,
    /// 0: no version's own, but the place of the one called `null` among the others.
    chance: u64,
}

/// A version as clients name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// What was written while the bucket did not give ids, or through POSIX: at most one of a key.
    Null,
    /// One with an id.
    Id(VersionId),
}

impl VersionId {
    /// Bytes of an id.
    pub const SIZE: usize = 16;

    /// One that is greater than `newest`, by the clock if that is ahead of it. An id is never given twice.
    pub fn after(newest: Option<Self>, now_ns: i64, chance: u64) -> Self {
        Self { time_ns: Self::time_after(newest, now_ns), chance: chance.max(1) }
    }

    /// The place of a `null` version that is newer than `newest`.
    pub fn place_after(newest: Option<Self>, now_ns: i64) -> Self {
        Self { time_ns: Self::time_after(newest, now_ns), chance: 0 }
    }

    fn time_after(newest: Option<Self>, now_ns: i64) -> u64 {
        let now = u64::try_from(now_ns).unwrap_or(0).max(1);
        // There is a place for a `null` in between.
        newest.map_or(now, |newest| now.max(newest.time_ns.saturating_add(2)))
    }

    /// Just below this one: the place of a `null` version that was the newest until this one came.
    pub fn place_before(self) -> Self {
        Self { time_ns: self.time_ns.saturating_sub(1), chance: 0 }
    }

    /// Whether it only says where the `null` version stands.
    pub fn is_place(self) -> bool {
        self.chance == 0
    }

    /// As it is kept. No id is all zeros.
    pub fn to_bytes(self) -> [u8; Self::SIZE] {
        (u128::from(self.time_ns) << 64 | u128::from(self.chance)).to_be_bytes()
    }

    /// `None`: all zeros.
    pub fn from_bytes(bytes: [u8; Self::SIZE]) -> Option<Self> {
        let whole = u128::from_be_bytes(bytes);
        (whole != 0).then_some(Self { time_ns: (whole >> 64) as u64, chance: whole as u64 })
    }

    /// 32 digits of which the newest version has the least.
    pub fn inverted(self) -> String {
        format!("{:032x}", !u128::from_be_bytes(self.to_bytes()))
    }

    /// The id of what `inverted` gave.
    pub fn from_inverted(digits: &[u8]) -> Option<Self> {
        Self::from_bytes((!number(digits)?).to_be_bytes()).filter(|id| !id.is_place())
    }
}

/// 32 lowercase digits.
fn number(digits: &[u8]) -> Option<u128> {
    let are_ours = digits.len() == 2 * VersionId::SIZE && digits.iter().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'));
    u128::from_str_radix(std::str::from_utf8(digits).ok().filter(|_| are_ours)?, 16).ok()
}

impl fmt::Display for VersionId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:032x}", u128::from_be_bytes(self.to_bytes()))
    }
}

impl Version {
    /// What a request says; `None` for what is no id of ours.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "null" {
            return Some(Self::Null);
        }
        let id = VersionId::from_bytes(number(text.as_bytes())?.to_be_bytes())?;
        (!id.is_place()).then_some(Self::Id(id))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => out.write_str("null"),
            Self::Id(id) => id.fmt(out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_greater_than_the_one_before_whatever_the_clock_says() {
        let first = VersionId::after(None, 1_000, 7);
        for now_ns in [2_000, 1_000, 0, -5, i64::MIN] {
            let next = VersionId::after(Some(first), now_ns, 1);
            assert!(next > first && next.place_before() < next && next.place_before() > first, "{now_ns}");
            assert!(VersionId::place_after(Some(first), now_ns) > first);
        }
        assert!(!VersionId::after(None, 0, 0).is_place());
    }

    #[test]
    fn what_is_written_is_read() {
        let id = VersionId::after(None, 0x0123_4567_89ab_cdef, 0xfedc_ba98);
        assert_eq!(id.to_string(), "0123456789abcdef00000000fedcba98");
        assert_eq!(Version::parse(&id.to_string()), Some(Version::Id(id)));
        assert_eq!(VersionId::from_bytes(id.to_bytes()), Some(id));
        assert_eq!(VersionId::from_inverted(id.inverted().as_bytes()), Some(id));
        assert_eq!(Version::parse("null"), Some(Version::Null));
        let later = VersionId::after(Some(id), 0, 1);
        assert!(later.inverted() < id.inverted());
        let upper = id.to_string().to_uppercase();
        for text in ["", "Null", "0", &"0".repeat(32), &upper, &"1".repeat(33), &format!("{}{}", "1".repeat(16), "0".repeat(16))]
        {
            assert_eq!(Version::parse(text), None, "{text}");
        }
    }
}
