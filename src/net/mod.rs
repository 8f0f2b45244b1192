//! How do bytes arrive? A core's listeners, the life of a connection, TLS. What a request means is none of this room's
//! business: it parses the head, hands an `Exchange` to the service it was given, and keeps the connection or not.
//!
//! Imports `io`, `mem`, the pure rooms `http` and `body`, and `config` for the names of certificate files. Limits: connections per
//! core, head size, what TLS holds for a client that sends or takes nothing (`TLS_*_SIZE_MAX`), and the timeouts of
//! `Timeouts`; at the cap somebody idle is closed for a newcomer, and `CONNECTIONS_BEYOND_MAX` are served health alone.

mod certificates;
mod exchange;
mod places;
mod serve;
mod tls;
mod transport;
mod watch;

pub use certificates::{CertificateError, FileProblem, TlsSettings};
pub use exchange::{Arrival, Exchange, ReceiveError, ReceivedHead, SendError, Stall};
#[cfg(test)]
pub use serve::simulate;
pub use serve::{After, Listening, serve};
pub use transport::Transport;
pub use watch::{Timeouts, Watchers};
