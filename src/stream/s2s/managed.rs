//! Stream management on a stream between servers (XEP-0198), without resumption: counted and acknowledged
//! by the router, who knows what became of a stanza; here is what is said about it.

use super::{Role, ServerStream, unsupported};
use crate::ns;
use crate::router::management::{Malformed, Nonza};
use crate::router::peers::{LinkNews, PeerNews};
use crate::stanza::{Condition, StreamError};
use crate::stream::{Action, Context};
use crate::xml::Top;

/// How far it is on a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Management {
    /// Nobody has asked for it.
    #[default]
    Off,
    /// Dialled: the peer offers it.
    Offered,
    /// Dialled: we have sent `<enable/>`.
    Enabling,
    /// Both sides count.
    On,
}

impl ServerStream {
    /// Whether both sides count.
    pub(super) fn is_managed(&self) -> bool {
        self.management == Management::On
    }

    /// Offers it to a peer that has opened a stream.
    pub(super) fn write_management(cx: &mut Context<'_>) {
        let feature = format!("<sm xmlns='{}'/>", ns::STREAM_MANAGEMENT);
        cx.out.extend_from_slice(feature.as_bytes());
    }

    /// The peer offers it in its features, or does not.
    pub(super) fn management_offered(&mut self, is_offered: bool) {
        self.management = match is_offered {
            true => Management::Offered,
            false => Management::Off,
        };
    }

    /// Asks for it on a stream whose peer takes our stanzas from now on, which are counted behind this.
    pub(super) fn enable_management(&mut self, cx: &mut Context<'_>) {
        if let (Role::Dialled(dialled), Management::Offered) = (&self.role, self.management) {
            let enable = Nonza::Enable {
                resume: false,
                seconds_max: None,
            };
            enable.write(cx.out);
            self.management = Management::Enabling;
            let enabling = Action::LinkNews(dialled.link, LinkNews::Enabling);
            cx.actions.push(enabling);
        }
    }

    /// A place has been made for what the peer sends on a stream that we have dialled: it counts that.
    pub(super) fn count_from_peer(&mut self, cx: &mut Context<'_>) {
        if self.is_dialled() && self.management == Management::On {
            self.tell_source(PeerNews::Enabled, cx);
        }
    }

    /// Takes an element of stream management.
    pub(super) fn managed(&mut self, top: &Top, cx: &mut Context<'_>) -> Result<(), StreamError> {
        let nonza = match Nonza::parse(top) {
            Ok(nonza) => nonza,
            Err(Malformed::Fail(condition)) => {
                Nonza::failed(&condition).write(cx.out);
                return Ok(());
            }
            Err(Malformed::End(error)) => return Err(error),
        };
        match (nonza, self.management) {
            // XEP-0198 §3: once, and not before the peer has proven who it is.
            (Nonza::Enable { .. }, Management::Off)
                if self.source.is_some() && !self.is_dialled() =>
            {
                self.management = Management::On;
                self.tell_source(PeerNews::Enable, cx);
            }
            (Nonza::Enable { .. }, _) => {
                Nonza::failed(&Condition::UnexpectedRequest).write(cx.out);
            }
            // No stream can be resumed.
            (Nonza::Resume { .. }, _) => {
                Nonza::failed(&Condition::ItemNotFound).write(cx.out);
            }
            (Nonza::Enabled { .. }, Management::Enabling) => {
                self.management = Management::On;
                self.tell_link(LinkNews::Enabled, cx);
                self.count_from_peer(cx);
            }
            (Nonza::Failed { .. }, Management::Enabling) => {
                self.management = Management::Off;
                self.tell_link(LinkNews::Failed, cx);
            }
            (Nonza::Request, Management::On) => match self.source {
                Some(_) => self.tell_source(PeerNews::Request, cx),
                // It sends nothing here that could be counted.
                None => Nonza::Ack { h: 0 }.write(cx.out),
            },
            (Nonza::Ack { h }, Management::On) => {
                self.tell_link(LinkNews::Acknowledged(h), cx);
            }
            _ => return Err(unsupported()),
        }
        Ok(())
    }

    /// A stanza was answered here, and counts all the same.
    pub(super) fn stanza_answered(&mut self, size: usize, cx: &mut Context<'_>) {
        self.tell_source(PeerNews::Stanza(size), cx);
    }

    fn tell_source(&self, news: PeerNews, cx: &mut Context<'_>) {
        if let Some(source) = self.source {
            cx.actions.push(Action::PeerNews(source, news));
        }
    }

    fn tell_link(&self, news: LinkNews, cx: &mut Context<'_>) {
        if let Some(link) = self.ready_link() {
            cx.actions.push(Action::LinkNews(link, news));
        }
    }
}
