//! S3's storage classes, by name: everything lies where it lies, and what an object was given is kept and told.

/// The names of <https://docs.aws.amazon.com/AmazonS3/latest/API/API_PutObject.html>, `x-amz-storage-class`. The codes are published:
/// append only, and never reorder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageClass {
    /// Where nothing was said.
    #[default]
    Standard = 0,
    ReducedRedundancy = 1,
    StandardIa = 2,
    OnezoneIa = 3,
    IntelligentTiering = 4,
    Glacier = 5,
    DeepArchive = 6,
    Outposts = 7,
    GlacierIr = 8,
    Snow = 9,
    ExpressOnezone = 10,
    FsxOpenzfs = 11,
    FsxOntap = 12,
}

const NAMES: [(StorageClass, &str); 13] = [
    (StorageClass::Standard, "STANDARD"),
    (StorageClass::ReducedRedundancy, "REDUCED_REDUNDANCY"),
    (StorageClass::StandardIa, "STANDARD_IA"),
    (StorageClass::OnezoneIa, "ONEZONE_IA"),
    (StorageClass::IntelligentTiering, "INTELLIGENT_TIERING"),
    (StorageClass::Glacier, "GLACIER"),
    (StorageClass::DeepArchive, "DEEP_ARCHIVE"),
    (StorageClass::Outposts, "OUTPOSTS"),
    (StorageClass::GlacierIr, "GLACIER_IR"),
    (StorageClass::Snow, "SNOW"),
    (StorageClass::ExpressOnezone, "EXPRESS_ONEZONE"),
    (StorageClass::FsxOpenzfs, "FSX_OPENZFS"),
    (StorageClass::FsxOntap, "FSX_ONTAP"),
];

impl StorageClass {
    /// As S3 spells it.
    pub fn name(self) -> &'static str {
        NAMES.get(self as usize).map_or("STANDARD", |(_, name)| name)
    }

    /// Exactly that spelling.
    pub fn parse(name: &str) -> Option<Self> {
        NAMES.iter().find(|(_, known)| *known == name).map(|(class, _)| *class)
    }

    /// The class of a record's code.
    pub fn decode(code: u8) -> Option<Self> {
        NAMES.get(usize::from(code)).map(|(class, _)| *class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_codes_agree() {
        for (code, (class, name)) in NAMES.into_iter().enumerate() {
            assert_eq!((class as usize, class.name(), StorageClass::parse(name)), (code, name, Some(class)));
            assert_eq!(StorageClass::decode(code as u8), Some(class));
        }
        assert_eq!(StorageClass::decode(NAMES.len() as u8), None);
        for name in ["", "standard", "STANDARD ", "COLD"] {
            assert_eq!(StorageClass::parse(name), None, "{name}");
        }
    }
}
