//! What headers say: requests as we read them, answers and trailers as we write them (RFC 9113, 8).

use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, Version, header};

use super::hpack;
use crate::limits;

/// Why a request is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// It has more headers than are taken.
    TooLarge,
    /// It breaks the rules.
    Malformed,
}

/// The headers of a request, or what came behind it, field by field.
#[derive(Debug, Default)]
pub(super) struct Fields {
    bytes: usize,
    is_malformed: bool,
    is_past_pseudo: bool,
    method: Option<Method>,
    scheme: Option<Scheme>,
    authority: Option<Authority>,
    path: Option<PathAndQuery>,
    headers: HeaderMap,
}

impl Fields {
    /// The next field.
    pub(super) fn take(&mut self, name: &[u8], value: &[u8]) {
        self.bytes += name.len() + value.len() + hpack::FIELD_BYTES;
        if self.is_too_large() || self.is_malformed {
            return;
        }
        let taken = match name.strip_prefix(b":") {
            Some(pseudo) => self.take_pseudo(pseudo, value),
            None => self.take_header(name, value),
        };
        self.is_malformed = taken.is_none();
    }

    fn is_too_large(&self) -> bool {
        self.bytes > limits::HEADER_LIST_MAX_BYTES as usize
    }

    fn take_pseudo(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        fn once<T>(place: &mut Option<T>, value: Result<T, impl Sized>) -> Option<()> {
            place.replace(value.ok()?).is_none().then_some(())
        }
        if self.is_past_pseudo {
            return None;
        }
        match name {
            b"method" => once(&mut self.method, Method::from_bytes(value)),
            b"scheme" => once(&mut self.scheme, Scheme::try_from(value)),
            b"authority" => once(&mut self.authority, Authority::try_from(value)),
            b"path" if !value.is_empty() => once(&mut self.path, PathAndQuery::try_from(value)),
            _ => None,
        }
    }

    fn take_header(&mut self, name: &[u8], value: &[u8]) -> Option<()> {
        self.is_past_pseudo = true;
        if name.iter().any(u8::is_ascii_uppercase) {
            return None;
        }
        let name = HeaderName::from_bytes(name).ok()?;
        // What concerns one connection is said in frames.
        let is_about_connection = [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE]
            .contains(&name)
            || ["keep-alive", "proxy-connection"].contains(&name.as_str())
            || (name == header::TE && value != b"trailers");
        if is_about_connection {
            return None;
        }
        // At most as many as are taken at all, which is less than a map holds.
        self.headers.try_append(name, HeaderValue::from_bytes(value).ok()?).ok()?;
        Some(())
    }

    /// A request.
    pub(super) fn request(self) -> Result<Parts, Unfit> {
        if self.is_too_large() {
            return Err(Unfit::TooLarge);
        }
        let request = self.well_formed().ok_or(Unfit::Malformed)?;
        Ok(request.into_parts().0)
    }

    fn well_formed(self) -> Option<Request<()>> {
        if self.is_malformed {
            return None;
        }
        let method = self.method?;
        let mut uri = Uri::builder();
        if method == Method::CONNECT {
            // It names a host and nothing else.
            if self.scheme.is_some() || self.path.is_some() {
                return None;
            }
            uri = uri.authority(self.authority?);
        } else {
            let (scheme, path) = (self.scheme?, self.path?);
            // Without a host there is no whole address, only a path.
            if let Some(authority) = self.authority {
                uri = uri.scheme(scheme).authority(authority);
            }
            uri = uri.path_and_query(path);
        }
        let mut request = Request::new(());
        *request.method_mut() = method;
        *request.uri_mut() = uri.build().ok()?;
        *request.version_mut() = Version::HTTP_2;
        *request.headers_mut() = self.headers;
        Some(request)
    }

    /// What came behind a request.
    pub(super) fn trailers(self) -> Result<HeaderMap, Unfit> {
        let has_pseudo =
            self.method.is_some() || self.scheme.is_some() || self.authority.is_some() || self.path.is_some();
        match (self.is_too_large(), self.is_malformed || has_pseudo) {
            (true, _) => Err(Unfit::TooLarge),
            (false, true) => Err(Unfit::Malformed),
            (false, false) => Ok(self.headers),
        }
    }
}

/// How many bytes a request says it has. `Err` when it says nothing sensible.
pub(super) fn content_length(headers: &HeaderMap) -> Result<Option<u64>, Unfit> {
    let mut said = headers.get_all(header::CONTENT_LENGTH).iter();
    let Some(length) = said.next() else { return Ok(None) };
    let is_number = length.as_bytes().iter().all(u8::is_ascii_digit);
    let number = length.to_str().ok().and_then(|length| length.parse().ok());
    match number {
        Some(number) if is_number && said.all(|other| other == length) => Ok(Some(number)),
        _ => Err(Unfit::Malformed),
    }
}

/// Writes the head of an answer.
pub(super) fn write_answer(block: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    hpack::write_field(block, ":status", status.as_str().as_bytes());
    write_trailers(block, headers);
}

/// Writes what comes behind an answer.
pub(super) fn write_trailers(block: &mut Vec<u8>, headers: &HeaderMap) {
    for (name, value) in headers {
        hpack::write_field(block, name.as_str(), value.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GET: [(&str, &str); 4] =
        [(":method", "GET"), (":scheme", "http"), (":authority", "flagd:8013"), (":path", "/a?b=c")];

    fn fields<'a>(fields: impl IntoIterator<Item = (&'a str, &'a str)>) -> Fields {
        let mut taken = Fields::default();
        for (name, value) in fields {
            taken.take(name.as_bytes(), value.as_bytes());
        }
        taken
    }

    #[test]
    fn a_request_is_read() {
        let more = [("te", "trailers"), ("x", "1"), ("x", "2"), ("cookie", "")];
        let request = fields(GET.into_iter().chain(more)).request().unwrap();
        assert_eq!((request.method, request.version), (Method::GET, Version::HTTP_2));
        assert_eq!(request.uri, "http://flagd:8013/a?b=c");
        let headers: Vec<_> =
            request.headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        assert_eq!(headers, more);
        for (said, uri) in [
            (&[(":method", "OPTIONS"), (":scheme", "http"), (":path", "*")][..], "*"),
            (&[(":path", "/"), (":scheme", "https"), (":method", "POST"), ("host", "flagd")], "/"),
            (&[(":method", "CONNECT"), (":authority", "flagd:80")], "flagd:80"),
        ] {
            assert_eq!(fields(said.iter().copied()).request().unwrap().uri, uri);
        }
    }

    #[test]
    fn what_breaks_the_rules_is_malformed() {
        for more in [
            (":path", "/"),
            (":status", "200"),
            (":protocol", "websocket"),
            ("", "x"),
            ("X-Upper", "x"),
            ("a b", "x"),
            ("x", "a\0b"),
            ("x", "a\r\nb: c"),
            ("connection", "close"),
            ("keep-alive", "1"),
            ("proxy-connection", "close"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "h2c"),
            ("te", "gzip"),
        ] {
            let request = fields(GET.into_iter().chain([more])).request();
            assert_eq!(request.map(|request| request.uri), Err(Unfit::Malformed), "{more:?}");
        }
        let late = [("x", "1"), (":method", "GET"), (":scheme", "http"), (":path", "/")];
        assert!(fields(late).request().is_err(), "pseudo headers come first");
        for missing in GET {
            let some = GET.into_iter().filter(|field| *field != missing);
            assert_eq!(fields(some).request().is_err(), missing.0 != ":authority", "without {missing:?}");
        }
        for (name, value) in [(":path", ""), (":path", "no slash"), (":scheme", "1:"), (":authority", "a b")]
        {
            let others = GET.into_iter().filter(|(other, _)| *other != name);
            assert!(fields(others.chain([(name, value)])).request().is_err(), "{name} {value:?}");
        }
    }

    #[test]
    fn too_many_headers_are_too_large_whatever_they_are() {
        let long = "x".repeat(200);
        let many = GET.into_iter().chain(std::iter::repeat_n(("x", long.as_str()), 1_000));
        assert_eq!(fields(many).request().map(|request| request.uri), Err(Unfit::TooLarge));
        let small = std::iter::repeat_n(("x", ""), 500);
        assert_eq!(fields(small).trailers(), Err(Unfit::TooLarge));
    }

    #[test]
    fn trailers_have_no_pseudo_headers() {
        assert_eq!(fields([("x", "1")]).trailers().unwrap()["x"], "1");
        assert_eq!(fields([(":method", "GET")]).trailers(), Err(Unfit::Malformed));
        assert_eq!(fields([("X", "1")]).trailers(), Err(Unfit::Malformed));
    }

    #[test]
    fn a_length_is_a_number_said_once() {
        let said = |values: &[&'static str]| {
            let values = values.iter().map(|value| (header::CONTENT_LENGTH, HeaderValue::from_static(value)));
            content_length(&values.fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            }))
        };
        for (values, want) in [
            (&[][..], Ok(None)),
            (&["7"], Ok(Some(7))),
            (&["7", "7"], Ok(Some(7))),
            (&["7", "8"], Err(Unfit::Malformed)),
            (&["+7"], Err(Unfit::Malformed)),
            (&["-7"], Err(Unfit::Malformed)),
            (&[""], Err(Unfit::Malformed)),
            (&["99999999999999999999"], Err(Unfit::Malformed)),
        ] {
            assert_eq!(said(values), want, "{values:?}");
        }
    }
}
