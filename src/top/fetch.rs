//! One GET of the metrics.

use std::fmt;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Request, StatusCode, Uri};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::limits::{METRICS_ANSWER_TIMEOUT, METRICS_PAGE_SIZE_MAX};

/// Where metrics are served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    host: String,
    port: u16,
    path: String,
}

/// Why there are no metrics: each with what to do.
#[derive(Debug, PartialEq, Eq)]
pub enum FetchError {
    /// Nobody answers there, or not in time.
    Silent { url: String, reason: String },
    /// Somebody answers with another status.
    Status { url: String, status: u16 },
    /// Somebody answers, who is no Sluice.
    Foreign { url: String },
}

impl Target {
    /// Understands `http://host:port/path`, of which all but the host may be left out.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        const REMEDY: &str = "write a URL such as http://127.0.0.1:9002";
        let rest = match text.split_once("://") {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
            Some(_) => return Err("metrics are served over http only; write a URL such as http://127.0.0.1:9002"),
            None => text,
        };
        let uri: Uri = format!("http://{rest}").parse().map_err(|_| REMEDY)?;
        let host = uri.host().filter(|host| !host.is_empty()).ok_or(REMEDY)?;
        let path = match uri.path_and_query().map(|path| path.as_str()) {
            None | Some("/") => "/metrics",
            Some(path) => path,
        };
        Ok(Self { host: host.to_owned(), port: uri.port_u16().unwrap_or(9002), path: path.to_owned() })
    }

    /// The text that is served now.
    pub(super) fn fetch(&self) -> Result<String, FetchError> {
        let silent = |reason: String| FetchError::Silent { url: self.to_string(), reason };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_io().enable_time().build();
        let runtime = runtime.map_err(|error| silent(error.to_string()))?;
        runtime.block_on(async {
            match tokio::time::timeout(METRICS_ANSWER_TIMEOUT, self.get()).await {
                Ok(Ok((StatusCode::OK, text))) => Ok(text),
                Ok(Ok((status, _))) => Err(FetchError::Status { url: self.to_string(), status: status.as_u16() }),
                Ok(Err(error)) => Err(silent(error.to_string())),
                Err(_) => Err(silent(format!("no answer within {} s", METRICS_ANSWER_TIMEOUT.as_secs()))),
            }
        })
    }

    async fn get(&self) -> Result<(StatusCode, String), Box<dyn std::error::Error + Send + Sync>> {
        // An IPv6 address has brackets in a URL and none where names are looked up.
        let stream = TcpStream::connect((self.host.trim_matches(['[', ']']), self.port)).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        let connection = tokio::spawn(connection);
        let host = format!("{}:{}", self.host, self.port);
        let request = Request::get(&self.path).header(HOST, host).body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = Limited::new(response.into_body(), METRICS_PAGE_SIZE_MAX).collect().await?.to_bytes();
        connection.abort();
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}:{}{}", self.host, self.port, self.path)
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Silent { url, reason } => write!(
                f,
                "no metrics at {url}: {reason}; start the server with --metrics-listen ADDRESS, and name that address here"
            ),
            Self::Status { url, status } => {
                write!(
                    f,
                    "no metrics at {url}: it answers {status}; name the address of --metrics-listen, not that of the buckets"
                )
            }
            Self::Foreign { url } => {
                write!(f, "{url} has metrics of something else; name the address of Sluice's --metrics-listen")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_of_a_url_is_filled_in() {
        let understood = |text: &str| Target::parse(text).map(|target| target.to_string());
        for text in ["http://10.0.0.7:9002/metrics", "http://10.0.0.7:9002/", "HTTP://10.0.0.7:9002", "10.0.0.7:9002", "10.0.0.7"]
        {
            assert_eq!(understood(text).as_deref(), Ok("http://10.0.0.7:9002/metrics"), "{text}");
        }
        assert_eq!(understood("http://[::1]:9003").as_deref(), Ok("http://[::1]:9003/metrics"));
        assert_eq!(understood("storage-7:80/a/b?c").as_deref(), Ok("http://storage-7:80/a/b?c"));
        for text in ["", "https://10.0.0.7", "http://", "http://a b", "ftp://a"] {
            assert!(understood(text).is_err(), "{text}");
        }
    }

    #[test]
    fn nobody_there_is_said_with_a_remedy() {
        // A port that was free a moment ago, and is not listened on.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
        let error = Target::parse(&format!("127.0.0.1:{port}")).expect("valid").fetch().expect_err("nobody is there");
        let text = error.to_string();
        assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("--metrics-listen"), "{text}");
    }
}
