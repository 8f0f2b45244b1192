//! `<VersioningConfiguration>`: whether a bucket keeps versions.

use super::parse::{Document, XmlError, check_not_empty, set};
use super::write::Writer;
use crate::limits;
use crate::model::Versioning;

const ROOT: &str = "VersioningConfiguration";

/// Reads the body of `PUT /bucket?versioning`; `None` where it does not say.
pub fn parse_versioning(body: &[u8]) -> Result<Option<Versioning>, XmlError> {
    check_not_empty(body)?;
    let mut document = Document::open(body, limits::XML_SIZE_MAX, ROOT)?;
    let (mut versioning, mut deletes_by_mfa) = (None, None);
    while let Some(name) = document.child()? {
        let text = match name {
            "Status" | "MfaDelete" => document.text()?,
            _ => return Err(XmlError::Malformed),
        };
        match (name, text.trim()) {
            ("Status", status) => set(&mut versioning, Versioning::of_status(status).ok_or(XmlError::Malformed)?)?,
            (_, "Enabled") => set(&mut deletes_by_mfa, true)?,
            (_, "Disabled") => set(&mut deletes_by_mfa, false)?,
            _ => return Err(XmlError::Malformed),
        }
    }
    document.finish()?;
    // Nobody has such a device here, and who asks for it relies on it.
    if deletes_by_mfa == Some(true) { Err(XmlError::NotImplemented("MfaDelete")) } else { Ok(versioning) }
}

/// Appends the document. One that was never set says nothing.
pub fn versioning(out: &mut Vec<u8>, versioning: Versioning) {
    let mut xml = Writer::document(out, ROOT);
    xml.optional("Status", versioning.status());
    xml.close(ROOT);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(inner: &str) -> Result<Option<Versioning>, XmlError> {
        parse_versioning(
            format!("<VersioningConfiguration xmlns=\"{}\">{inner}</VersioningConfiguration>", super::super::NAMESPACE)
                .as_bytes(),
        )
    }

    #[test]
    fn what_is_written_is_read() {
        for kind in [Versioning::Unversioned, Versioning::Enabled, Versioning::Suspended] {
            let mut out = Vec::new();
            versioning(&mut out, kind);
            let read = parse_versioning(&out).unwrap();
            assert_eq!(read.unwrap_or_default(), kind);
            assert!(String::from_utf8(out).unwrap().contains(super::super::NAMESPACE));
        }
    }

    #[test]
    fn anything_else_is_refused() {
        assert_eq!(parse("<Status>Enabled</Status><MfaDelete>Disabled</MfaDelete>"), Ok(Some(Versioning::Enabled)));
        assert_eq!(parse("<MfaDelete>Enabled</MfaDelete><Status>Enabled</Status>"), Err(XmlError::NotImplemented("MfaDelete")));
        for inner in [
            "<Status>enabled</Status>",
            "<Status></Status>",
            "<Status>Unversioned</Status>",
            "<Status>Enabled</Status><Status>Suspended</Status>",
            "<Status><b/>Enabled</Status>",
            "<MfaDelete>maybe</MfaDelete>",
            "<Rule/>",
            "text",
        ] {
            assert_eq!(parse(inner), Err(XmlError::Malformed), "{inner}");
        }
        assert_eq!(parse_versioning(b" "), Err(XmlError::Empty));
        assert_eq!(parse_versioning(b"<Versioning/>"), Err(XmlError::Malformed));
    }
}
