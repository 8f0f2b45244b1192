//! A parsed head with the bytes it was parsed from.

use std::borrow::Cow;

use super::head::{Field, Framing, Head, Version};

/// The request as it was asked.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    head: &'a Head,
    bytes: &'a [u8],
}

impl<'a> Request<'a> {
    /// `bytes` are those that `head` was parsed from; more may follow them.
    pub fn new(head: &'a Head, bytes: &'a [u8]) -> Self {
        assert!(bytes.len() >= head.size(), "a head is read from the bytes it was parsed from");
        Self { head, bytes }
    }

    /// The method, any token.
    pub fn method(&self) -> &'a str {
        text(self.head.method.of(self.bytes)).unwrap_or_default()
    }

    /// The target as it was sent.
    pub fn target(&self) -> &'a [u8] {
        self.head.target.of(self.bytes)
    }

    /// The path, still percent-encoded; `*` for `OPTIONS *`. Never empty.
    pub fn path(&self) -> &'a [u8] {
        match self.head.parts.path.of(self.bytes) {
            // RFC 9110 section 4.2.3: `http://host` is `http://host/`.
            b"" => b"/",
            path => path,
        }
    }

    /// The query behind `?`, raw. `Some("")` for a target that ends in `?`.
    pub fn query(&self) -> Option<&'a [u8]> {
        self.head.parts.query.map(|query| query.of(self.bytes))
    }

    /// The version.
    pub fn version(&self) -> Version {
        self.head.version
    }

    /// Host with its port, as sent: the Host field, which is the target's authority when there is one; `None` only in
    /// HTTP/1.0.
    pub fn host(&self) -> Option<&'a str> {
        self.head.host.and_then(|host| text(host.of(self.bytes)))
    }

    /// The value of the first field called `name` in any case; `None` when it is missing or no UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.header_bytes(name).and_then(text)
    }

    /// The value of the first field called `name` in any case.
    pub fn header_bytes(&self, name: &str) -> Option<&'a [u8]> {
        self.fields_called(name).next().map(|field| field.value.of(self.bytes))
    }

    /// All fields called `name` in any case, as the one list that they are (RFC 9110 section 5.3).
    pub fn header_list(&self, name: &str) -> Option<Cow<'a, [u8]>> {
        let mut lines = self.fields_called(name).map(|field| field.value.of(self.bytes));
        let first = lines.next()?;
        let Some(second) = lines.next() else { return Some(Cow::Borrowed(first)) };
        let mut list = [first, second].join(&b", "[..]);
        for line in lines {
            list.extend_from_slice(b", ");
            list.extend_from_slice(line);
        }
        Some(Cow::Owned(list))
    }

    /// How many fields are called `name`. A field that decides who asks, or what, must not come twice.
    pub fn header_count(&self, name: &str) -> usize {
        self.fields_called(name).count()
    }

    /// All fields in the order they came: the name as sent, the value without the white space around it.
    pub fn headers(&self) -> Headers<'a> {
        Headers { fields: self.head.fields().iter(), bytes: self.bytes }
    }

    /// How the body is delimited. Doubtful framing never gets this far: `parse` refuses it.
    pub fn framing(&self) -> Framing {
        self.head.framing
    }

    /// Whether the client wants another request on this connection (RFC 9112 section 9.3).
    pub fn keep_alive(&self) -> bool {
        self.head.keep_alive
    }

    /// The `Connection` field of the answer. A client of HTTP/1.0 that wants to keep the connection reads to its end unless it is
    /// told that it may (RFC 9112 appendix C.2.2; `ab -k` is one).
    pub fn connection(&self, is_kept: bool) -> Option<&'static str> {
        match (is_kept, self.version()) {
            (false, _) => Some("close"),
            (true, Version::Http10) => Some("keep-alive"),
            (true, Version::Http11) => None,
        }
    }

    /// Whether the client waits for `100 Continue` before it sends the body.
    pub fn expects_continue(&self) -> bool {
        self.head.expects_continue
    }

    fn fields_called(&self, name: &str) -> impl Iterator<Item = &'a Field> {
        let Self { head, bytes } = *self;
        head.fields().iter().filter(move |field| field.name.of(bytes).eq_ignore_ascii_case(name.as_bytes()))
    }
}

/// See `Request::headers`.
#[derive(Clone, Debug)]
pub struct Headers<'a> {
    fields: std::slice::Iter<'a, Field>,
    bytes: &'a [u8],
}

impl<'a> Iterator for Headers<'a> {
    type Item = (&'a str, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let field = self.fields.next()?;
        // A name is a token, hence ASCII.
        Some((text(field.name.of(self.bytes)).unwrap_or_default(), field.value.of(self.bytes)))
    }
}

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}
