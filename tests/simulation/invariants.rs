//! What holds after every turn, and what holds when all is quiet.

use std::collections::VecDeque;

use stanzad::limits::{
    ASKED_MAX, DIRECTED_MAX, INBOX_SERVER_BYTES_MAX, LATER_MAX, OUTPUT_BYTES_MAX,
    OUTPUT_HOLD_BYTES, UNSETTLED_STANZAS_MAX, WAITING_BYTES_MAX, WAITING_POSTS_MAX,
};
use stanzad::post::Weigh;
use stanzad::shard::Post;
use stanzad::shard::turn::Shard;
use stanzad::storage::roster::states;

use crate::client::Stage;
use crate::world::World;

/// A stanza of the largest size, as it may be written on top of a bound.
const STANZA_BYTES: usize = 300_000;
/// Sessions of an account. Each may have a stanza in the account's inbox that is on top of its bound,
/// and so have hand-offs, which are small.
const SESSIONS_MAX: usize = 4;

/// After a turn of a shard: bounds are kept, and nobody is in who must be out.
pub fn check(shard: &Shard, index: u32, world: &mut World) {
    let router = &shard.router;
    for (key, session) in router.sessions.iter() {
        let open = session.unsettled.open();
        // One stanza above the bound is what is noticed.
        if open > UNSETTLED_STANZAS_MAX + 1 {
            world.violated(format!("{} has {open} unsettled stanzas", session.jid));
        }
        let bytes = router.out.outputs.len(session.conn);
        if session.unsettled.is_full() {
            world.count("turns with too much unsettled");
        }
        if bytes > OUTPUT_HOLD_BYTES {
            world.count("turns with too much unread");
        }
        if bytes > OUTPUT_BYTES_MAX + STANZA_BYTES {
            world.violated(format!("{bytes} bytes wait for {}", session.jid));
        }
        if session.directed.len() > DIRECTED_MAX || session.asked.len() > ASKED_MAX {
            world.violated(format!("{} has told or asked too many", session.jid));
        }
        let is_known = router
            .accounts
            .get(session.account)
            .is_some_and(|account| account.sessions.contains(&key));
        if !is_known {
            world.violated(format!("{} is no session of its account", session.jid));
        }
        check_session(session.jid.as_str(), session.origin.stream as usize, world);
    }
    crate::holdings::check(router, index, world);
    for (_, account) in router.accounts.iter() {
        let waiting = account.inbox.bytes();
        if waiting > INBOX_SERVER_BYTES_MAX + SESSIONS_MAX * STANZA_BYTES {
            let jid = &account.jid;
            world.violated(format!("{waiting} bytes wait in the inbox of {jid}"));
        }
        if account.later > LATER_MAX {
            world.violated(format!(
                "{} answers wait for {}",
                account.later, account.jid
            ));
        }
        if account.sessions.len() > SESSIONS_MAX {
            world.violated(format!("{} has too many sessions", account.jid));
        }
        let has_waiting = !account.inbox.is_empty() || !account.admissions.is_empty();
        if has_waiting && !account.is_busy() {
            world.violated(format!("{} keeps waiting what need not wait", account.jid));
        }
    }
}

/// What waits in a shard's mailbox. The bound of each sender keeps that far below the mark at which a
/// real server's gate would shut: the gates of a run shut by chance alone.
pub fn check_mail(posts: &VecDeque<Post>, violations: &mut Vec<String>) {
    let bytes: usize = posts.iter().map(Weigh::weight).sum();
    if posts.len() > WAITING_POSTS_MAX || bytes > WAITING_BYTES_MAX {
        violations.push(format!(
            "{} posts of {bytes} bytes wait in a mailbox",
            posts.len()
        ));
    }
}

/// No session survives a command that ends it (issue 3: passwd, disable and delete end live sessions
/// and fail logins in flight).
fn check_session(jid: &str, client: usize, world: &mut World) {
    let account = &world.accounts.all[world.clients[client].account];
    let admitted = world.clients[client].admitted_turn;
    if let Some(ended) = account.ended_turn
        && admitted.is_none_or(|admitted| admitted < ended)
    {
        let what = format!(
            "client {client} has the session {jid}, admitted in turn {admitted:?}, though all were \
             ended in turn {ended}"
        );
        world.violated(what);
    }
}

/// When nothing is on its way: nobody waits for anything.
pub fn check_quiet(shards: &[Shard], world: &mut World) {
    let mut sessions = 0;
    for shard in shards {
        let router = &shard.router;
        if router.waiting() > 0 || !router.out.work.is_empty() {
            world.violated(format!("{} continuations wait for ever", router.waiting()));
        }
        for (_, account) in router.accounts.iter() {
            if account.is_busy() || account.later > 0 || !account.commands.is_empty() {
                world.violated(format!("{} is busy for ever", account.jid));
            }
            if let Some(roster) = &account.roster {
                let stored = states(world.store(&account.jid).db(), &account.jid).unwrap();
                let stored = stored.iter().map(|(jid, state)| (jid.as_str(), *state));
                if !roster.iter().eq(stored) {
                    let what = format!("{} has another roster in memory than stored", account.jid);
                    world.violated(what);
                }
            }
        }
        crate::holdings::check_quiet(router, world);
        for (_, session) in router.sessions.iter() {
            sessions += 1;
            let open = session.unsettled.open();
            if open > 0 {
                let jid = &session.jid;
                world.violated(format!("{open} stanzas of {jid} are never settled"));
            }
        }
    }
    for server in &world.servers {
        for message in server.waiting_messages() {
            let id = message.stanza.id.unwrap_or_default();
            let what = format!("{id} waits for ever for {}", message.remote);
            world.violations.push(what);
        }
    }
    let online = world
        .live
        .iter()
        .filter(|live| world.clients[**live].stage == Stage::Online);
    let online = online.count();
    if sessions != online {
        world.violated(format!(
            "{sessions} sessions, though {online} clients are online"
        ));
    }
}
