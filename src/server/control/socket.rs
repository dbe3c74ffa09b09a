//! The listening side of the control socket, on threads of its own.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::{Backend, REQUEST_BYTES_MAX, Reply, Request};

/// Requests worked on at once. Operators and their scripts ask one after another; a hash with
/// bcrypt holds a thread for a fifth of a second.
const CALLS_MAX: usize = 8;

/// A command sends its request at once, so whoever takes longer is no command of ours.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// For each write of the reply: a command that was suspended must not hold a thread for ever.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the connection of a stop request is kept: longer than an orderly stop may take
/// (`Commit first` in lib.rs), so that in a server only the end of the process closes it.
const STOP_TIME_MAX: Duration = Duration::from_secs(60);

/// Out of file descriptors, `accept` fails at once and again; so often it is tried.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why there is no control socket.
#[derive(Debug)]
pub enum ControlError {
    /// A server answers on it already.
    InUse(PathBuf),
    /// Something that is not a socket is in its place.
    NotASocket(PathBuf),
    /// Others may write to the directory, so they could put their own socket there.
    OpenDirectory { directory: PathBuf, mode: u32 },
    /// The operating system refused a step.
    Io {
        doing: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

impl fmt::Display for ControlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ControlError::InUse(path) => write!(
                f,
                "{}: another stanzad answers on this control socket; stop it with `stanzad stop`, \
                 or set another server.control",
                path.display()
            ),
            ControlError::NotASocket(path) => write!(
                f,
                "{}: this is no socket, so it is not replaced; move it away, or set another \
                 server.control",
                path.display()
            ),
            ControlError::OpenDirectory { directory, mode } => write!(
                f,
                "{0}: other users may write to the directory of the control socket \
                 (mode {mode:04o}); `chmod go-w {0}` mends it",
                directory.display()
            ),
            ControlError::Io { doing, path, error } => {
                write!(f, "{}: cannot {doing}: {error}", path.display())
            }
        }
    }
}

impl std::error::Error for ControlError {}

/// A control socket that is served until [`ControlSocket::stop`].
pub struct ControlSocket {
    path: PathBuf,
    file: (u64, u64),
    listener: Arc<UnixListener>,
    stopping: Arc<AtomicBool>,
    accepting: thread::JoinHandle<()>,
}

/// Makes the socket at `path`, which only root and the user of this process may open, and serves it
/// on threads of its own. Its directory is made too, with mode 0700, where it does not exist. A
/// socket that an ended server left behind is replaced; one that is answered is not.
///
/// # Errors
/// Whatever keeps the socket from being made or from being safe.
pub fn serve(path: &Path, backend: Arc<dyn Backend>) -> Result<ControlSocket, ControlError> {
    let failed = |doing| {
        let path = path.to_path_buf();
        move |error| ControlError::Io { doing, path, error }
    };
    prepare_directory(path)?;
    remove_stale(path)?;
    let listener = Arc::new(bind(path)?);
    let metadata = fs::symlink_metadata(path).map_err(failed("look at the control socket"))?;
    let stopping = Arc::new(AtomicBool::new(false));
    let accepting = thread::Builder::new()
        .name("control".to_string())
        .spawn({
            let (listener, stopping) = (Arc::clone(&listener), Arc::clone(&stopping));
            move || accept_until_stopped(&listener, &stopping, &backend)
        })
        .map_err(failed("start a thread for the control socket"))?;
    Ok(ControlSocket {
        path: path.to_path_buf(),
        file: (metadata.dev(), metadata.ino()),
        listener,
        stopping,
        accepting,
    })
}

impl ControlSocket {
    /// Accepts no more calls and removes the socket's file. Calls under way are answered still, as
    /// long as the process lives.
    pub fn stop(self) {
        self.stopping.store(true, Ordering::Release);
        // On Linux this ends an `accept` that waits (unix(7) sockets: it fails with EINVAL).
        if let Err(error) = rustix::net::shutdown(&self.listener, rustix::net::Shutdown::Read) {
            log::warn!(error:%; "control socket not shut down");
            return;
        }
        if self.accepting.join().is_err() {
            log::error!("control socket's thread panicked");
        }
        // Only what is ours: an operator may have moved the file and started another server.
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!(path:% = self.path.display(), error:%; "control socket not removed");
        }
    }
}

fn prepare_directory(path: &Path) -> Result<(), ControlError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let failed = |doing| {
        let path = directory.to_path_buf();
        move |error| ControlError::Io { doing, path, error }
    };
    if !directory.exists() {
        fs::DirBuilder::new()
            .mode(0o700)
            .create(directory)
            .map_err(failed("make the directory of the control socket"))?;
    }
    let mode = fs::metadata(directory)
        .map_err(failed("look at the directory of the control socket"))?
        .mode();
    // In a sticky directory (/tmp) others may make files, but not replace ours.
    let (written_by_others, sticky) = (mode & 0o022 != 0, mode & 0o1000 != 0);
    if written_by_others && !sticky {
        let (directory, mode) = (directory.to_path_buf(), mode & 0o7777);
        return Err(ControlError::OpenDirectory { directory, mode });
    }
    Ok(())
}

fn remove_stale(path: &Path) -> Result<(), ControlError> {
    let failed = |doing| {
        let path = path.to_path_buf();
        move |error| ControlError::Io { doing, path, error }
    };
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed("look at the control socket")(error)),
    };
    if !metadata.file_type().is_socket() {
        return Err(ControlError::NotASocket(path.to_path_buf()));
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(ControlError::InUse(path.to_path_buf())),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map_err(failed("remove the control socket of an ended server"))
        }
        Err(error) => Err(failed("find out whether the control socket is in use")(
            error,
        )),
    }
}

/// Between `bind` and `listen` nobody can connect, so the mode is set there: no umask is relied on.
fn bind(path: &Path) -> Result<UnixListener, ControlError> {
    let failed = |doing| {
        let path = path.to_path_buf();
        move |error| ControlError::Io { doing, path, error }
    };
    let address = socket2::SockAddr::unix(path).map_err(failed(
        "use this as the path of a socket (at most 107 bytes)",
    ))?;
    let socket = socket2::Socket::new(socket2::Domain::UNIX, socket2::Type::STREAM, None)
        .map_err(failed("make a socket"))?;
    socket
        .bind(&address)
        .map_err(failed("bind the control socket"))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
        .map_err(failed("set the mode of the control socket"))?;
    socket
        .listen(16)
        .map_err(failed("listen on the control socket"))?;
    Ok(UnixListener::from(std::os::fd::OwnedFd::from(socket)))
}

fn accept_until_stopped(
    listener: &UnixListener,
    stopping: &AtomicBool,
    backend: &Arc<dyn Backend>,
) {
    let calls = Arc::new(AtomicUsize::new(0));
    let mut is_short = false;
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => {
                is_short = false;
                start_call(stream, &calls, backend);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                if !mem::replace(&mut is_short, true) {
                    log::warn!(error:%; "control call not accepted, it waits");
                }
                thread::sleep(ACCEPT_PAUSE);
            }
        }
    }
}

/// One call, counted while it lives.
struct Call {
    stream: UnixStream,
    calls: Arc<AtomicUsize>,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.calls.fetch_sub(1, Ordering::AcqRel);
    }
}

fn start_call(stream: UnixStream, calls: &Arc<AtomicUsize>, backend: &Arc<dyn Backend>) {
    let under_way = calls.fetch_add(1, Ordering::AcqRel);
    let call = Call {
        stream,
        calls: Arc::clone(calls),
    };
    if let Err(refusal) = check_peer(&call.stream) {
        answer(&call.stream, &refusal);
        return;
    }
    if under_way >= CALLS_MAX {
        let text = format!("{CALLS_MAX} commands are being worked on; try again in a moment");
        answer(&call.stream, &Reply::error(text));
        return;
    }
    let backend = Arc::clone(backend);
    let started = thread::Builder::new()
        .name("control-call".to_string())
        .spawn(move || run_call(&call, backend.as_ref()));
    if let Err(error) = started {
        // The closure is gone and the connection with it; the command says that no reply came.
        log::warn!(error:%; "control call has no thread");
    }
}

fn check_peer(stream: &UnixStream) -> Result<(), Reply> {
    let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())
        .map_err(|error| Reply::error(format!("cannot tell who calls: {error}")))?;
    if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
        return Ok(());
    }
    log::warn!(uid = peer.uid.as_raw(); "control call refused");
    Err(Reply::error(
        "only root and the user whom stanzad runs as may control it",
    ))
}

fn run_call(call: &Call, backend: &dyn Backend) {
    let request = match read_request(&call.stream) {
        Ok(request) => request,
        Err(text) => return answer(&call.stream, &Reply::error(text)),
    };
    let reply = backend.execute(request);
    answer(&call.stream, &reply);
    if matches!(reply, Reply::Stopping { .. }) {
        wait_for_close(&call.stream);
    }
}

/// Reads one line within its bounds of size and time.
fn read_request(mut stream: &UnixStream) -> Result<Request, String> {
    let deadline = Instant::now() + REQUEST_TIME_MAX;
    // Never grown, as that would leave copies of a password behind.
    let mut line = Zeroizing::new(vec![0; REQUEST_BYTES_MAX]);
    let mut length = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err("the request took too long".to_string());
        }
        stream
            .set_read_timeout(Some(left))
            .map_err(|error| format!("cannot set a time-out: {error}"))?;
        let Some(room) = line.get_mut(length..).filter(|room| !room.is_empty()) else {
            return Err(format!(
                "the request is longer than {REQUEST_BYTES_MAX} bytes"
            ));
        };
        let read = match stream.read(room) {
            Ok(0) => return Err("the request ended before its newline".to_string()),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
            Err(error) => return Err(format!("cannot read the request: {error}")),
        };
        let end = line[length..length + read]
            .iter()
            .position(|byte| *byte == b'\n');
        if let Some(end) = end {
            return parse_request(&line[..length + end]);
        }
        length += read;
    }
}

/// The error has no word of the request, as that may be a password.
fn parse_request(line: &[u8]) -> Result<Request, String> {
    serde_json::from_slice(line).map_err(|error| {
        format!(
            "this server, stanzad {}, does not understand the request (column {}); is the command \
             of another version?",
            env!("CARGO_PKG_VERSION"),
            error.column()
        )
    })
}

fn answer(mut stream: &UnixStream, reply: &Reply) {
    let written = stream
        .set_write_timeout(Some(REPLY_TIME_MAX))
        .and_then(|()| serde_json::to_vec(reply).map_err(io::Error::other))
        .and_then(|mut line| {
            line.push(b'\n');
            stream.write_all(&line)
        });
    if let Err(error) = written {
        // What was asked is done all the same; the command says that it got no reply.
        log::info!(error:%; "control reply not delivered");
    }
}

fn wait_for_close(mut stream: &UnixStream) {
    let deadline = Instant::now() + STOP_TIME_MAX;
    let mut ignored = [0; 256];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() || stream.set_read_timeout(Some(left)).is_err() {
            return;
        }
        match stream.read(&mut ignored) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests;
