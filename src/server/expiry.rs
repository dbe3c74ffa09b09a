//! Warns of our own certificates before they end: once a day, on a thread of its own, for a server that
//! runs for months without a reload. A start and a reload warn as well, when they load them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, bounded};

use crate::net::certificate::EXPIRY_WARNING_SECONDS;
use crate::net::tls::CertificateInfo;
use crate::server::{Core, StartError, join, spawn};

/// How often certificates are looked at.
const PERIOD: Duration = Duration::from_secs(86_400);

/// The thread that warns.
pub struct Watch {
    /// Nothing is ever sent: that it is dropped ends the thread.
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Watch {
    /// Starts it. It first looks a day later.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(core: Arc<Core>) -> Result<Watch, StartError> {
        let (stop, stopped) = bounded::<()>(0);
        let thread = spawn("certificates".to_owned(), move || {
            while stopped.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
                core.warn_of_certificates();
            }
        })?;
        Ok(Watch { stop, thread })
    }

    /// Ends the thread.
    pub fn stop(self) {
        drop(self.stop);
        join(self.thread);
    }
}

impl Core {
    fn warn_of_certificates(&self) {
        let contexts = &self.loaded().contexts;
        let now = jiff::Timestamp::now().as_second();
        for info in contexts.clients.certificates() {
            let (domain, file) = (info.domain.as_str(), info.file.display());
            match left(info, now) {
                Left::Enough => {}
                Left::Days(days) => log::warn!(
                    domain, file:%, days;
                    "certificate expires soon, renew it and run stanzad reload"
                ),
                Left::Over => log::error!(
                    domain, file:%;
                    "certificate has expired, clients and servers refuse it; renew it and run stanzad reload"
                ),
            }
        }
    }
}

/// What is left of a certificate's time.
#[derive(Debug, PartialEq, Eq)]
enum Left {
    /// Nobody needs to care yet.
    Enough,
    /// So many whole days.
    Days(i64),
    /// None.
    Over,
}

fn left(info: &CertificateInfo, now: i64) -> Left {
    match info.not_after - now {
        seconds if seconds < 0 => Left::Over,
        seconds if seconds < EXPIRY_WARNING_SECONDS => Left::Days(seconds / 86_400),
        _ => Left::Enough,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_weeks_before_its_end_a_certificate_is_warned_of() {
        let info = CertificateInfo {
            domain: "example.org".to_owned(),
            file: "x".into(),
            key_file: "x".into(),
            key: String::new(),
            names: Vec::new(),
            covers_domain: true,
            issuer: String::new(),
            not_before: 0,
            not_after: 100 * 86_400,
        };
        let at = |day: i64| left(&info, day * 86_400);
        assert_eq!(at(79), Left::Enough);
        assert_eq!(at(80), Left::Days(20));
        assert_eq!(at(100), Left::Days(0));
        assert_eq!(left(&info, 100 * 86_400 + 1), Left::Over);
    }
}
