//! `stanzad account`: over the control socket while a server has the data, else on the store
//! itself.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use super::{Account, Failure, ctl, load, password, print, print_json, remark, table};
use crate::clock::Clock;
use crate::config::Settings;
use crate::server::accounts::{self, Refusal};
use crate::server::control::{AccountInfo, CallError, Reply, Request};
use crate::server::privileges;
use crate::storage::{OpenError, WriterCore};

/// Does one account command.
pub fn run(command: Account) -> Result<(), Failure> {
    privileges::restrict_new_files();
    let config = match &command {
        Account::Add(name)
        | Account::Passwd(name)
        | Account::Delete(name)
        | Account::Disable(name)
        | Account::Enable(name) => &name.config.path,
        Account::List { config, .. } => &config.path,
    };
    let settings = load(config)?;
    become_owner(&settings.server.data)?;
    let with_password = |jid: &str| {
        // Before a password is asked for.
        check_name(jid, &settings)?;
        password::read_new(jid)
    };
    let (request, done, json) = match command {
        Account::Add(name) => {
            let (jid, password) = (name.jid.clone(), with_password(&name.jid)?);
            (Request::AccountAdd { jid, password }, "made", false)
        }
        Account::Passwd(name) => {
            let (jid, password) = (name.jid.clone(), with_password(&name.jid)?);
            (
                Request::AccountPasswd { jid, password },
                "given a new password",
                false,
            )
        }
        Account::Delete(name) => {
            check_name(&name.jid, &settings)?;
            (Request::AccountDelete { jid: name.jid }, "deleted", false)
        }
        Account::Disable(name) => {
            check_name(&name.jid, &settings)?;
            (Request::AccountDisable { jid: name.jid }, "disabled", false)
        }
        Account::Enable(name) => {
            check_name(&name.jid, &settings)?;
            (Request::AccountEnable { jid: name.jid }, "enabled", false)
        }
        Account::List { domain, json, .. } => (Request::AccountList { domain }, "", json),
    };
    match execute(&settings, &request)? {
        Reply::Account(change) => {
            let ended = match change.sessions_ended {
                0 => String::new(),
                1 => "; its session was ended".to_string(),
                count => format!("; its {count} sessions were ended"),
            };
            remark(format_args!("{} was {done}{ended}", change.jid));
            Ok(())
        }
        Reply::Accounts(list) if json => print_json(&list),
        Reply::Accounts(list) => print(&describe(&list)),
        Reply::Error { text } => Err(Failure::No(text)),
        other => Err(ctl::unexpected(&other)),
    }
}

/// An address that cannot be an account's is wrong use; one that is not here is a no.
fn check_name(jid: &str, settings: &Settings) -> Result<(), Failure> {
    match accounts::local_account(jid, settings) {
        Ok(_) => Ok(()),
        Err(refusal @ (Refusal::NotAJid { .. } | Refusal::NoLocalpart { .. })) => {
            Err(Failure::Usage(refusal.to_string()))
        }
        Err(refusal) => Err(Failure::no(refusal)),
    }
}

/// By whoever has the data: the running server, or this process.
fn execute(settings: &Settings, request: &Request) -> Result<Reply, Failure> {
    match WriterCore::open(&settings.server.data, settings.store.durability) {
        Ok(mut store) => {
            let now = Clock::start().now().wall;
            let reply = accounts::apply_offline(&mut store, settings, request, now);
            store.close();
            Ok(reply)
        }
        Err(OpenError::AlreadyRunning { pid, .. }) => match ctl::call_server(settings, request) {
            Err(CallError::NotRunning(control)) => {
                let process = pid.map_or("another process".to_string(), |pid| {
                    format!("process {pid}")
                });
                Err(Failure::no(format_args!(
                    "{}: {process} uses the data, but nobody answers on {}; if it is another \
                     command, try again; if it is a server, name the conf file that it runs with",
                    settings.server.data.display(),
                    control.display()
                )))
            }
            reply => ctl::accept(reply),
        },
        Err(error) => Err(Failure::no(error)),
    }
}

/// Files that root makes in the service user's directory would keep the server from starting. So
/// where the data belong to somebody else, root's command starts itself again as that user.
fn become_owner(data: &Path) -> Result<(), Failure> {
    let Ok(metadata) = fs::metadata(data) else {
        // Opening the store makes the directory, or tells why not.
        return Ok(());
    };
    if !privileges::is_root() || metadata.uid() == 0 {
        return Ok(());
    }
    let error = Command::new("/proc/self/exe")
        .args(std::env::args_os().skip(1))
        .uid(metadata.uid())
        .gid(metadata.gid())
        .exec();
    Err(Failure::no(format_args!(
        "{}: the data belong to user {uid}, as whom this command cannot go on ({error}); try \
         `sudo -u '#{uid}' stanzad account ...`",
        data.display(),
        uid = metadata.uid()
    )))
}

fn describe(list: &[AccountInfo]) -> String {
    let rows: Vec<_> = list
        .iter()
        .map(|account| {
            [
                account.jid.clone(),
                if account.enabled {
                    "enabled"
                } else {
                    "disabled"
                }
                .to_string(),
                account.created.clone(),
                account
                    .last_seen
                    .clone()
                    .unwrap_or_else(|| "never".to_string()),
            ]
        })
        .collect();
    table(["JID", "STATE", "CREATED", "LAST SEEN"], &rows)
}
