use super::*;
use proptest::prelude::*;

const NAMESPACE: &str = r#" xmlns="http://s3.amazonaws.com/doc/2006-03-01/""#;

fn keys(body: &str) -> Result<Vec<String>, XmlError> {
    Ok(delete_objects(body.as_bytes())?.objects.into_iter().map(|object| object.key).collect())
}

fn object(key: &str) -> String {
    format!("<Delete><Object><Key>{key}</Key></Object></Delete>")
}

#[test]
fn delete_as_the_api_reference_shows_it() {
    let body = format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
        <Delete{NAMESPACE}>
          <Object>
             <ETag>"6a"</ETag><Key>a/b c.txt</Key><LastModifiedTime>Wed, 01 Jan 2025 00:00:00 GMT</LastModifiedTime>
             <Size>12</Size><VersionId>null</VersionId>
          </Object>
          <Object><Key> x&amp;y&lt;&#x1;&#13;</Key></Object>
          <Quiet>true</Quiet>
        </Delete>
        "#
    );
    let delete = delete_objects(body.as_bytes()).unwrap();
    assert!(delete.quiet);
    assert_eq!(
        delete.objects[0],
        ObjectIdentifier {
            key: "a/b c.txt".into(),
            version_id: Some("null".into()),
            etag: Some("\"6a\"".into()),
            last_modified_time: Some("Wed, 01 Jan 2025 00:00:00 GMT".into()),
            size: Some(12),
        }
    );
    assert_eq!(delete.objects[1].key, " x&y<\u{1}\r");
    assert_eq!(delete.objects.len(), 2);
}

#[test]
fn prefixes_byte_order_mark_cdata_and_comments_are_understood() {
    let body = "\u{feff}<?xml version='1.0'?><!-- c --><s3:Delete xmlns:s3='http://s3.amazonaws.com/doc/2006-03-01/'>\
                <s3:Object><s3:Key>a<![CDATA[<&>]]>b<!-- c --></s3:Key></s3:Object></s3:Delete><!-- c -->\n";
    assert_eq!(keys(body), Ok(vec!["a<&>b".to_owned()]));
    // XML 1.0 section 2.11.
    assert_eq!(keys(&object("a\r\nb\rc")), Ok(vec!["a\nb\nc".to_owned()]));
}

#[test]
fn what_is_refused() {
    let bomb = "<!DOCTYPE d [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]>";
    for body in ["", "   ", "\r\n"] {
        assert_eq!(keys(body), Err(XmlError::Empty), "{body:?}");
        assert_eq!(complete_multipart_upload(body.as_bytes()), Err(XmlError::Empty), "{body:?}");
    }
    for body in [
        "not xml".into(),
        "<Delete>".into(),
        "<Delete/>".into(),
        "<Delete></Delete>".into(),
        "<Delete><Object/></Delete>".into(),
        object(""),
        object("a").replace("Delete", "Remove"),
        format!("{bomb}{}", object("&b;")),
        format!("<!DOCTYPE Delete SYSTEM \"file:///etc/passwd\">{}", object("a")),
        object("&b;"),
        object("&#0;"),
        object("&#xD800;"),
        object("&#x110000;"),
        object("&#;"),
        object("&#+65;"),
        object("a & b"),
        object("a\0b"),
        format!("<?php x?>{}", object("a")),
        format!("<?xml version=\"1.0\" encoding=\"UTF-16\"?>{}", object("a")),
        format!(" <?xml version=\"1.0\"?>{}", object("a")),
        format!("{}{}", object("a"), object("b")),
        format!("{}x", object("a")),
        "<Delete>text<Object><Key>a</Key></Object></Delete>".into(),
        "<Delete><Object><Key>a</Key><Key>b</Key></Object></Delete>".into(),
        "<Delete><Object><Key>a</Key><Unheard>b</Unheard></Object></Delete>".into(),
        "<Delete><Object><Key>a<b/></Key></Object></Delete>".into(),
        "<Delete><Object><Key>a</Object></Key></Delete>".into(),
        "<Delete><Quiet>maybe</Quiet><Object><Key>a</Key></Object></Delete>".into(),
        "<Delete><Object><Key>a</Key><Size>+1</Size></Object></Delete>".into(),
        "<Delete><Object><Key>a</Key><Size></Size></Object></Delete>".into(),
    ] {
        assert_eq!(keys(&body), Err(XmlError::Malformed), "{body}");
    }
    let utf16: Vec<u8> = object("a").encode_utf16().flat_map(u16::to_le_bytes).collect();
    assert_eq!(delete_objects(&utf16), Err(XmlError::Malformed));
    assert_eq!(delete_objects(b"<Delete><Object><Key>\xff</Key></Object></Delete>"), Err(XmlError::Malformed));
    // Overlong form of `/`.
    assert_eq!(delete_objects(b"<Delete><Object><Key>..\xc0\xaf</Key></Object></Delete>"), Err(XmlError::Malformed));
}

#[test]
fn a_thousand_keys_and_not_one_more() {
    let body = |count: usize| format!("<Delete>{}</Delete>", "<Object><Key>k</Key></Object>".repeat(count));
    assert_eq!(delete_objects(body(1000).as_bytes()).unwrap().objects.len(), 1000);
    assert_eq!(delete_objects(body(1001).as_bytes()), Err(XmlError::TooMany));
    let large = object(&"k".repeat(limits::XML_SIZE_MAX));
    assert_eq!(delete_objects(large.as_bytes()), Err(XmlError::TooLarge));
}

#[test]
fn depth_and_attributes_cost_nothing() {
    let deep = "<Delete>".repeat(100_000);
    assert_eq!(delete_objects(deep.as_bytes()), Err(XmlError::Malformed));
    let attributes: String = (0..100_000).map(|n| format!(" a{n}='x'")).collect();
    let body = format!("<Delete{attributes}><Object><Key>k</Key></Object></Delete>");
    assert_eq!(keys(&body), Ok(vec!["k".to_owned()]));
}

#[test]
fn parts_of_every_client() {
    // boto3, aws-sdk-js, rclone and the CRT each spell the quotes their own way.
    let body = format!(
        "<CompleteMultipartUpload{NAMESPACE}><Part><ETag>\"a1\"</ETag><PartNumber>1</PartNumber></Part>\
         <Part><ETag>&quot;a2&quot;</ETag><PartNumber>2</PartNumber><ChecksumCRC32>AAAAAA==</ChecksumCRC32></Part>\
         <Part><PartNumber> 3 </PartNumber><ETag>&#34;a3&#34;</ETag><ChecksumSHA1/></Part>\
         <Part><PartNumber>7</PartNumber><ETag>a7</ETag><ChecksumCRC64NVME> q= </ChecksumCRC64NVME></Part>\
         </CompleteMultipartUpload>"
    );
    let parts = complete_multipart_upload(body.as_bytes()).unwrap();
    let part = |part_number, etag: &str, checksums: &[(&'static str, &str)]| CompletedPart {
        part_number,
        etag: etag.into(),
        checksums: checksums.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
    };
    let expected =
        [part(1, "a1", &[]), part(2, "a2", &[("CRC32", "AAAAAA==")]), part(3, "a3", &[]), part(7, "a7", &[("CRC64NVME", "q=")])];
    assert_eq!(parts, expected);
}

#[test]
fn parts_that_are_refused() {
    let document =
        |inner: &str| complete_multipart_upload(format!("<CompleteMultipartUpload>{inner}</CompleteMultipartUpload>").as_bytes());
    for inner in [
        "",
        "<Part/>",
        "<Part><PartNumber>1</PartNumber></Part>",
        "<Part><ETag>a</ETag></Part>",
        "<Part><PartNumber>one</PartNumber><ETag>a</ETag></Part>",
        "<Part><PartNumber>99999999999999999999</PartNumber><ETag>a</ETag></Part>",
        "<Part><PartNumber>1</PartNumber><ETag>a</ETag><ChecksumMD4>x</ChecksumMD4></Part>",
        "<Part><PartNumber>1</PartNumber><ETag>a</ETag><ChecksumSHA1>x</ChecksumSHA1><ChecksumSHA1>x</ChecksumSHA1></Part>",
        "<Object><Key>a</Key></Object>",
    ] {
        assert_eq!(document(inner), Err(XmlError::Malformed), "{inner}");
    }
    for number in [-1, 0, 10_001, 99_999_999_999] {
        let inner = format!("<Part><PartNumber>{number}</PartNumber><ETag>a</ETag></Part>");
        assert_eq!(document(&inner), Err(XmlError::PartNumber(number)));
    }
    let part = "<Part><PartNumber>1</PartNumber><ETag>a</ETag></Part>";
    assert_eq!(document(&part.repeat(10_000)).unwrap().len(), 10_000);
    assert_eq!(document(&part.repeat(10_001)), Err(XmlError::TooMany));
}

#[test]
fn location_constraint() {
    let parse = |inner: &str| {
        let body = format!("<CreateBucketConfiguration{NAMESPACE}>{inner}</CreateBucketConfiguration>");
        create_bucket_configuration(body.as_bytes()).map(|configuration| configuration.location_constraint)
    };
    assert_eq!(create_bucket_configuration(b"").unwrap().location_constraint, None);
    assert_eq!(parse("<LocationConstraint>eu-west-1</LocationConstraint>"), Ok(Some("eu-west-1".into())));
    assert_eq!(parse("<LocationConstraint/>"), Ok(None));
    assert_eq!(parse(""), Ok(None));
    assert_eq!(parse("<Tags><Tag/></Tags>"), Err(XmlError::UnsupportedArgument));
    for none in ["<Tags/>", "<Tags> </Tags>", "<Tags></Tags>"] {
        assert_eq!(parse(none), Ok(None), "{none}");
    }
    assert_eq!(parse("<Tags>a</Tags>"), Err(XmlError::Malformed));
    assert_eq!(parse("<Delete/>"), Err(XmlError::Malformed));
}

/// Pieces that are nearly a document find more than random bytes do.
fn nearly_xml() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("<Delete>"),
        Just("</Delete>"),
        Just("<Object>"),
        Just("</Object>"),
        Just("<Key>"),
        Just("</Key>"),
        Just("<Key/>"),
        Just("k"),
        Just("&amp;"),
        Just("&#"),
        Just("&"),
        Just(";"),
        Just("<![CDATA["),
        Just("]]>"),
        Just("<!--"),
        Just("-->"),
        Just("<?xml"),
        Just("?>"),
        Just("<!DOCTYPE"),
        Just(">"),
        Just("<"),
        Just("\u{feff}"),
        Just("é"),
        Just("\r"),
        Just("\""),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

/// `text` with every character as a reference, so that nothing in it is markup.
fn as_references(text: &str) -> String {
    text.chars().map(|c| format!("&#{};", c as u32)).collect()
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        prop_assert!(delete_objects(&bytes).is_err());
        let _ = (complete_multipart_upload(&bytes), create_bucket_configuration(&bytes));
    }

    #[test]
    fn no_markup_panics(body in nearly_xml()) {
        if let Ok(delete) = delete_objects(body.as_bytes()) {
            prop_assert!(!delete.objects.is_empty());
            let size: usize = delete.objects.iter().map(|object| object.key.len()).sum();
            prop_assert!(size <= body.len());
        }
        let _ = (complete_multipart_upload(body.as_bytes()), create_bucket_configuration(body.as_bytes()));
    }

    #[test]
    fn every_key_can_be_named(key in "\\PC{1,40}|[\\x01-\\x7f]{1,40}") {
        prop_assert_eq!(keys(&object(&as_references(&key))), Ok(vec![key]));
    }
}
