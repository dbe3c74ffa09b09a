//! The calling side of the control socket, for the commands.

use std::fmt;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use zeroize::Zeroizing;

use super::{REPLY_BYTES_MAX, Reply, Request};

/// For the whole of a commit, a hash, or a reload; an orderly stop takes at most 10 seconds
/// (`Commit first` in lib.rs).
const REPLY_TIME_MAX: Duration = Duration::from_secs(30);

/// For the DNS, all addresses and the proof of a try at another server, and some more.
const EXPLAIN_TIME_MAX: Duration = Duration::from_secs(60);

/// Why a command has no reply.
#[derive(Debug)]
pub enum CallError {
    /// Nobody listens there.
    NotRunning(PathBuf),
    /// The socket may not be opened by this user.
    Forbidden(PathBuf),
    /// Who listens there is neither root, nor this user, nor the one whom the data belong to.
    Stranger { path: PathBuf, uid: u32 },
    /// The reply did not come in time.
    TimedOut(PathBuf),
    /// The connection broke, or what came is no reply.
    Broken { path: PathBuf, error: io::Error },
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CallError::NotRunning(path) => write!(
                f,
                "nobody answers on {}; the server is not running",
                path.display()
            ),
            CallError::Forbidden(path) => write!(
                f,
                "{}: only root and the user whom stanzad runs as may control it; try it with sudo",
                path.display()
            ),
            CallError::Stranger { path, uid } => write!(
                f,
                "{}: the server there runs as user {uid}, to whom the data directory does not \
                 belong; nothing was sent to it",
                path.display()
            ),
            CallError::TimedOut(path) => write!(
                f,
                "{}: the server did not answer in time; what was asked may still be done",
                path.display()
            ),
            CallError::Broken { path, error } => {
                write!(f, "{}: no reply from the server: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for CallError {}

/// Asks the server that listens at `path` and waits for its reply. `owner` is the user id to which
/// the data directory belongs: a server that runs as neither that user, nor root, nor the caller is
/// told nothing, as it may be there to catch passwords.
///
/// # Errors
/// Whatever kept the reply away. After all but [`CallError::TimedOut`] and [`CallError::Broken`]
/// nothing was asked.
pub fn call(path: &Path, owner: u32, request: &Request) -> Result<Reply, CallError> {
    let mut stream = connect(path, owner)?;
    if matches!(request, Request::ExplainS2s { .. }) {
        let timeout = stream.get_ref().set_read_timeout(Some(EXPLAIN_TIME_MAX));
        timeout.map_err(|error| broken(path, error))?;
    }
    ask(path, &mut stream, request)
}

/// Like [`call`], and then waits until the server has closed the connection: after a
/// [`Reply::Stopping`] that is when the process has ended.
///
/// # Errors
/// As [`call`]; also when the connection stays open for too long.
pub fn call_until_gone(path: &Path, owner: u32, request: &Request) -> Result<Reply, CallError> {
    let mut stream = connect(path, owner)?;
    let reply = ask(path, &mut stream, request)?;
    match stream.read(&mut [0]) {
        Ok(0) => Ok(reply),
        Ok(_) => Err(broken(path, io::ErrorKind::InvalidData.into())),
        // A process that is killed in the end resets its connections.
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(reply),
        Err(error) => Err(broken(path, error)),
    }
}

fn connect(path: &Path, owner: u32) -> Result<BufReader<UnixStream>, CallError> {
    let stream = UnixStream::connect(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
            CallError::NotRunning(path.to_path_buf())
        }
        io::ErrorKind::PermissionDenied => CallError::Forbidden(path.to_path_buf()),
        _ => broken(path, error),
    })?;
    let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())
        .map_err(|error| broken(path, error.into()))?;
    let uid = peer.uid.as_raw();
    if uid != owner && !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        let path = path.to_path_buf();
        return Err(CallError::Stranger { path, uid });
    }
    stream
        .set_read_timeout(Some(REPLY_TIME_MAX))
        .and_then(|()| stream.set_write_timeout(Some(REPLY_TIME_MAX)))
        .map_err(|error| broken(path, error))?;
    Ok(BufReader::new(stream))
}

fn ask(
    path: &Path,
    stream: &mut BufReader<UnixStream>,
    request: &Request,
) -> Result<Reply, CallError> {
    let mut line = Zeroizing::new(Vec::with_capacity(super::REQUEST_BYTES_MAX));
    serde_json::to_writer(&mut *line, request).map_err(|error| broken(path, error.into()))?;
    line.push(b'\n');
    if line.len() > super::REQUEST_BYTES_MAX {
        let error = io::Error::new(io::ErrorKind::InvalidInput, "the request is too long");
        return Err(broken(path, error));
    }
    stream
        .get_mut()
        .write_all(&line)
        .map_err(|error| broken(path, error))?;
    let mut reply = Vec::new();
    stream
        .by_ref()
        .take(REPLY_BYTES_MAX)
        .read_until(b'\n', &mut reply)
        .map_err(|error| broken(path, error))?;
    if reply.last() != Some(&b'\n') {
        return Err(broken(path, io::ErrorKind::UnexpectedEof.into()));
    }
    serde_json::from_slice(&reply).map_err(|error| broken(path, error.into()))
}

fn broken(path: &Path, error: io::Error) -> CallError {
    let path = path.to_path_buf();
    match error.kind() {
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => CallError::TimedOut(path),
        _ => CallError::Broken { path, error },
    }
}
