//! The operator, and what the simulation knows of each account: what was acknowledged to the operator
//! is so, from that turn on.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use stanzad::clock::Wall;
use stanzad::jid::BareJid;
use stanzad::router::commands::AccountCommand;
use stanzad::server::accounts::{Change, Operation};
use stanzad::shard::Post;
use stanzad::stanza::{StreamCondition, StreamError};
use stanzad::storage::{StoreError, accounts};

use crate::scram::{PASSWORDS, credentials, password};
use crate::world::{Event, Phase, Sender, World};

/// All accounts of a run.
pub struct Accounts {
    pub all: Vec<Account>,
    replies: Arc<Mutex<Vec<(usize, Result<u64, StoreError>)>>>,
}

/// What is known of one account.
pub struct Account {
    pub jid: BareJid,
    pub state: Standing,
    /// Which account of that name it is, as its shard knows: none if there is none.
    pub id: Option<i64>,
    /// When it was last deleted.
    pub deleted_at: Option<u64>,
    /// There was no account of that name for a while.
    pub was_absent: bool,
    /// Commands that are sent and not answered, in order.
    pub pending: VecDeque<Command>,
    /// When a command about it was last sent or answered, in milliseconds.
    pub disturbed: u64,
    /// The turn in which a command was answered that ends all sessions and logins.
    pub ended_turn: Option<u64>,
    /// The turn in which any command was answered that changed the account.
    pub changed_turn: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub exists: bool,
    pub is_enabled: bool,
    pub password: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Create(usize),
    Passwd(usize),
    Disable,
    Enable,
    Delete,
}

impl Accounts {
    pub fn new() -> Accounts {
        let names = [
            "a@example.org",
            "b@example.org",
            "c@example.org",
            "d@example.org",
            "e@example.net",
            "f@example.net",
        ];
        let account = |(number, name): (usize, &&str)| Account {
            jid: BareJid::parse(name).unwrap(),
            state: Standing {
                exists: true,
                is_enabled: true,
                password: number % PASSWORDS,
            },
            id: None,
            deleted_at: None,
            was_absent: false,
            pending: VecDeque::new(),
            disturbed: 0,
            ended_turn: None,
            changed_turn: None,
        };
        Accounts {
            all: names.iter().enumerate().map(account).collect(),
            replies: Arc::default(),
        }
    }
}

impl Standing {
    /// What a command makes of it, or how it is refused.
    fn after(self, command: Command) -> Result<Standing, StoreError> {
        match command {
            Command::Create(_) if self.exists => Err(StoreError::Exists),
            Command::Create(password) => Ok(Standing {
                exists: true,
                is_enabled: true,
                password,
            }),
            _ if !self.exists => Err(StoreError::NotFound),
            Command::Passwd(password) => Ok(Standing { password, ..self }),
            Command::Disable => Ok(Standing {
                is_enabled: false,
                ..self
            }),
            Command::Enable => Ok(Standing {
                is_enabled: true,
                ..self
            }),
            Command::Delete => Ok(Standing {
                exists: false,
                is_enabled: false,
                ..self
            }),
        }
    }

    /// Whether that password lets in.
    pub fn lets_in(self, password: usize) -> bool {
        self.exists && self.is_enabled && self.password == password
    }
}

impl World {
    pub fn create_accounts(&mut self) {
        for index in 0..self.accounts.all.len() {
            let jid = self.accounts.all[index].jid.clone();
            let password = credentials(self.accounts.all[index].state.password);
            self.store_mut(&jid)
                .change(move |db| accounts::create(db, &jid, &password, Wall::from_micros(1)))
                .unwrap();
            self.identify(index);
        }
    }

    /// Looks which account has a name now.
    fn identify(&mut self, index: usize) {
        let jid = self.jid_of(index);
        let id = accounts::find(self.store(&jid).db(), &jid).unwrap();
        let server = self.server_of_account(index);
        let id = id.map(|record| self.life(server, record.id));
        let now = self.now;
        let account = &mut self.accounts.all[index];
        if account.id.is_some() && account.id != id {
            account.deleted_at = Some(now);
            account.was_absent = true;
        }
        account.id = id;
    }

    /// The operator does something to some account.
    pub fn administer(&mut self) {
        if self.phase != Phase::Busy {
            return;
        }
        let pause = self.chance.within(50..=2_500);
        self.after(pause, Event::Admin);
        let index = self.chance.index(self.accounts.all.len());
        let standing = self.accounts.all[index].state;
        let new = self.chance.index(PASSWORDS);
        let command = match self.chance.within(0..=9) {
            // Mostly what mends, so that there is somebody to talk to.
            _ if !standing.exists && !self.chance.one_in(4) => Command::Create(new),
            _ if !standing.is_enabled && !self.chance.one_in(4) => Command::Enable,
            0..=4 => Command::Passwd(new),
            5 | 6 => Command::Disable,
            7 => Command::Enable,
            8 => Command::Delete,
            _ => Command::Create(new),
        };
        self.command(index, command);
    }

    fn command(&mut self, index: usize, command: Command) {
        let now = self.now;
        let account = &mut self.accounts.all[index];
        account.pending.push_back(command);
        account.disturbed = now;
        let jid = account.jid.clone();
        self.count("commands");
        self.note(|| format!("operator: {command:?} {jid}"));
        let operation = match command {
            Command::Create(number) => Operation::Create(credentials(number)),
            Command::Passwd(number) => Operation::SetCredentials(credentials(number)),
            Command::Disable => Operation::SetEnabled(false),
            Command::Enable => Operation::SetEnabled(true),
            Command::Delete => Operation::Delete,
        };
        let change = Change {
            jid: jid.clone(),
            operation,
        };
        let ends_sessions = change.ends_sessions().then(|| {
            let condition = match command {
                Command::Passwd(_) => StreamCondition::Reset,
                _ => StreamCondition::NotAuthorized,
            };
            StreamError::new(condition, "The operator wants it so")
        });
        let wall = Wall::from_micros(now * 1000);
        let command = AccountCommand {
            apply: Box::new(move |db| change.apply(db, wall)),
            ends_sessions,
        };
        let replies = Arc::clone(&self.accounts.replies);
        let reply = Box::new(move |result| replies.lock().unwrap().push((index, result)));
        let shard = self.shard_of(jid.as_str());
        self.deliver(
            Sender::Control,
            shard,
            vec![Post::Command(jid, command, reply)],
        );
    }

    /// Notes what the operator was told in this turn.
    pub fn took_replies(&mut self) {
        let replies = std::mem::take(&mut *self.accounts.replies.lock().unwrap());
        for (index, result) in replies {
            let (now, turn) = (self.now, self.turns);
            let account = &mut self.accounts.all[index];
            account.disturbed = now;
            let Some(command) = account.pending.pop_front() else {
                self.violated(format!("a command was answered twice: {result:?}"));
                return;
            };
            let expected = account.state.after(command);
            let told = result.as_ref().map(drop);
            match (&result, expected) {
                (Ok(_), Ok(state)) => {
                    account.state = state;
                    account.changed_turn = Some(turn);
                    if !matches!(command, Command::Create(_) | Command::Enable) {
                        account.ended_turn = Some(turn);
                    }
                }
                (Err(told), Err(expected)) if *told == expected => {}
                (Err(StoreError::Full | StoreError::Refused(_)), _)
                    if self.trouble_at.is_some() => {}
                (_, expected) => {
                    let jid = account.jid.clone();
                    self.violated(format!(
                        "{command:?} of {jid} was answered {told:?}, not {expected:?}"
                    ));
                }
            }
            let jid = self.accounts.all[index].jid.clone();
            self.note(|| format!("operator: {command:?} {jid} is done: {result:?}"));
            self.identify(index);
        }
    }

    /// A `<success/>` was written: the password that the client has must let in at this turn.
    pub fn check_admission(&mut self, index: usize) {
        let client = &self.clients[index];
        let account = &self.accounts.all[client.account];
        if !account.state.lets_in(client.password) {
            let (jid, state) = (account.jid.clone(), account.state);
            let password = client.password;
            self.violated(format!(
                "client {index} was let in as {jid} by password {password}, which is {state:?}"
            ));
        }
    }

    /// What was acknowledged before the crash of a server is stored; what was not may be, in order.
    pub fn accounts_after_crash(&mut self, server: usize) {
        for index in 0..self.accounts.all.len() {
            if self.server_of_account(index) != server {
                continue;
            }
            let account = &self.accounts.all[index];
            let jid = account.jid.clone();
            let stored = accounts::credentials(self.store(&jid).db(), &jid).unwrap();
            let is_stored = |state: &Standing| match &stored {
                None => !state.exists,
                Some((record, credentials)) => {
                    state.exists
                        && state.is_enabled == record.enabled
                        && credentials.verify(&password(state.password))
                }
            };
            let mut states = vec![account.state];
            for command in &account.pending {
                // After a failed commit one may be missing in the middle.
                let first = match self.character.has_trouble {
                    true => 0,
                    false => states.len() - 1,
                };
                let next: Vec<Standing> = states[first..]
                    .iter()
                    .map(|state| state.after(*command).unwrap_or(*state))
                    .collect();
                states.extend(next);
            }
            let Some(state) = states.iter().copied().find(is_stored) else {
                let record = stored.map(|(record, _)| record);
                self.violated(format!(
                    "{jid} is none of {states:?} after the crash, but {record:?}"
                ));
                return;
            };
            let now = self.now;
            let account = &mut self.accounts.all[index];
            account.state = state;
            account.pending.clear();
            account.disturbed = now;
            self.identify(index);
        }
        let replies = Arc::clone(&self.accounts.replies);
        let mut replies = replies.lock().unwrap();
        replies.retain(|(index, _)| self.server_of_account(*index) != server);
    }
}
