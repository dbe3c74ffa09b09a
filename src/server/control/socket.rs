//! The listening side of the control socket, on threads of its own.

use std::fmt;
use std::fs;
use std::io::{self, Read, Write};
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

/// Requests worked on at once. Operators and their scripts ask one after another; a hash with bcrypt
/// holds a thread for a fifth of a second.
const CALLS_MAX: usize = 8;

/// A command sends its request at once, so whoever takes longer is no command of ours.
const REQUEST_TIME_MAX: Duration = Duration::from_secs(5);

/// For each write of the reply: a command that was suspended must not hold a thread for ever.
const REPLY_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the connection of a stop request is kept: longer than an orderly stop may take
/// (DESIGN §5), so that in a server only the end of the process closes it.
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
                "{0}: other users may write to the directory of the control socket (mode {mode:04o}); \
                 `chmod go-w {0}` mends it",
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
            log::warn!("control socket not shut down error=\"{error}\"");
            return;
        }
        if self.accepting.join().is_err() {
            log::error!("the control socket's thread panicked");
        }
        // Only what is ours: an operator may have moved the file and started another server.
        let ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == self.file);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            log::warn!(
                "control socket not removed path={} error=\"{error}\"",
                self.path.display()
            );
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
    loop {
        let accepted = listener.accept();
        if stopping.load(Ordering::Acquire) {
            return;
        }
        match accepted {
            Ok((stream, _)) => start_call(stream, &calls, backend),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                log::warn!("control socket: no call accepted error=\"{error}\"");
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
        log::warn!("control socket: no thread for a call error=\"{error}\"");
    }
}

fn check_peer(stream: &UnixStream) -> Result<(), Reply> {
    let peer = rustix::net::sockopt::socket_peercred(stream.as_fd())
        .map_err(|error| Reply::error(format!("cannot tell who calls: {error}")))?;
    if peer.uid.is_root() || peer.uid == rustix::process::geteuid() {
        return Ok(());
    }
    log::warn!("control socket: call refused uid={}", peer.uid.as_raw());
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
        log::info!("control socket: reply not delivered error=\"{error}\"");
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
mod tests {
    use std::sync::Mutex;

    use super::super::{CallError, Password, call, call_until_gone};
    use super::*;

    /// Answers with an error that repeats the request, and remembers what it was asked.
    #[derive(Default)]
    struct Echo {
        asked: Mutex<Vec<String>>,
    }

    impl Backend for Echo {
        fn execute(&self, request: Request) -> Reply {
            self.asked.lock().unwrap().push(format!("{request:?}"));
            match request {
                Request::Stop => Reply::Stopping { pid: 1 },
                other => Reply::error(format!("{other:?}")),
            }
        }
    }

    struct Served {
        path: PathBuf,
        backend: Arc<Echo>,
        socket: Option<ControlSocket>,
        _directory: tempfile::TempDir,
    }

    fn served() -> Served {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("run").join("control.sock");
        let backend = Arc::new(Echo::default());
        let socket = serve(&path, backend.clone()).unwrap();
        Served {
            path,
            backend,
            socket: Some(socket),
            _directory: directory,
        }
    }

    fn owner() -> u32 {
        rustix::process::geteuid().as_raw()
    }

    fn raw(path: &Path, bytes: &[u8]) -> Reply {
        let mut stream = UnixStream::connect(path).unwrap();
        stream.write_all(bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        serde_json::from_str(&reply).unwrap()
    }

    fn text(reply: Reply) -> String {
        match reply {
            Reply::Error { text } => text,
            other => panic!("not an error: {other:?}"),
        }
    }

    #[test]
    fn a_call_gets_its_reply() {
        let served = served();
        let reply = call(&served.path, owner(), &Request::Status).unwrap();
        assert_eq!(text(reply), "Status");
    }

    #[test]
    fn only_the_owner_may_open_socket_and_directory() {
        let served = served();
        let mode = |path: &Path| fs::metadata(path).unwrap().mode() & 0o7777;
        assert_eq!(mode(&served.path), 0o600);
        assert_eq!(mode(served.path.parent().unwrap()), 0o700);
    }

    #[test]
    fn a_request_in_pieces_is_put_together() {
        let served = served();
        let mut stream = UnixStream::connect(&served.path).unwrap();
        for byte in b"\"reload\"\n" {
            stream.write_all(&[*byte]).unwrap();
        }
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        assert_eq!(text(serde_json::from_str(&reply).unwrap()), "Reload");
    }

    #[test]
    fn an_oversized_request_is_refused_and_not_executed() {
        let served = served();
        let mut stream = UnixStream::connect(&served.path).unwrap();
        // The server closes without having read all, so the last writes may fail.
        let sent = stream.write_all(&vec![b' '; REQUEST_BYTES_MAX]);
        let mut reply = String::new();
        let read = stream.read_to_string(&mut reply);
        assert!(sent.is_err() || read.is_err() || reply.contains("longer than 65536 bytes"));
        assert!(served.backend.asked.lock().unwrap().is_empty());
    }

    #[test]
    fn a_request_cut_short_is_not_executed() {
        let served = served();
        assert!(text(raw(&served.path, b"\"stop\"")).contains("before its newline"));
        assert!(served.backend.asked.lock().unwrap().is_empty());
    }

    #[test]
    fn the_refusal_of_nonsense_repeats_no_word_of_it() {
        let served = served();
        for line in [
            "{\"account_add\":\"r0m30\"}\n",
            "{\"r0m30\":1}\n",
            "r0m30\n",
            "\"r0m30\"\n",
        ] {
            let text = text(raw(&served.path, line.as_bytes()));
            assert!(text.contains("does not understand"), "{text}");
            assert!(!text.contains("r0m30"), "{text}");
        }
    }

    #[test]
    fn a_live_socket_is_not_taken_over() {
        let served = served();
        let second = serve(&served.path, Arc::new(Echo::default()));
        assert!(matches!(second, Err(ControlError::InUse(_))));
        assert!(call(&served.path, owner(), &Request::Status).is_ok());
    }

    #[test]
    fn a_stale_socket_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "a closed listener leaves its file");
        let socket = serve(&path, Arc::new(Echo::default())).unwrap();
        assert!(call(&path, owner(), &Request::Status).is_ok());
        socket.stop();
    }

    #[test]
    fn a_file_in_the_socket_s_place_is_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        fs::write(&path, "mine").unwrap();
        let refused = serve(&path, Arc::new(Echo::default()));
        assert!(matches!(refused, Err(ControlError::NotASocket(_))));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
    }

    #[test]
    fn a_directory_that_others_may_write_is_refused_with_the_cure() {
        let directory = tempfile::tempdir().unwrap();
        fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o770)).unwrap();
        let path = directory.path().join("control.sock");
        let Err(error) = serve(&path, Arc::new(Echo::default())) else {
            panic!("served from a shared directory");
        };
        let text = error.to_string();
        assert!(
            text.contains("0770") && text.contains("chmod go-w"),
            "{text}"
        );
        assert!(!path.exists());
    }

    #[test]
    fn stop_removes_the_socket_and_ends_the_thread() {
        let mut served = served();
        served.socket.take().unwrap().stop();
        assert!(!served.path.exists());
        let after = call(&served.path, owner(), &Request::Status);
        assert!(matches!(after, Err(CallError::NotRunning(_))));
    }

    #[test]
    fn stop_leaves_the_socket_of_a_successor() {
        let mut served = served();
        fs::remove_file(&served.path).unwrap();
        let successor = serve(&served.path, Arc::new(Echo::default())).unwrap();
        served.socket.take().unwrap().stop();
        assert!(call(&served.path, owner(), &Request::Status).is_ok());
        successor.stop();
    }

    #[test]
    fn the_connection_of_a_stop_stays_open_after_the_reply() {
        use std::io::BufRead;
        let served = served();
        let mut stream = UnixStream::connect(&served.path).unwrap();
        stream.write_all(b"\"stop\"\n").unwrap();
        let mut lines = io::BufReader::new(stream.try_clone().unwrap());
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        assert_eq!(line, "{\"stopping\":{\"pid\":1}}\n");
        stream.set_nonblocking(true).unwrap();
        let next = lines.read(&mut [0]);
        assert!(next.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    }

    #[test]
    fn whoever_waits_for_the_end_learns_of_it() {
        // A server of one call that ends, as a process does, with its connection.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let server = thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            assert!(matches!(read_request(&stream), Ok(Request::Stop)));
            answer(&stream, &Reply::Stopping { pid: 7 });
        });
        let reply = call_until_gone(&path, owner(), &Request::Stop).unwrap();
        assert_eq!(reply, Reply::Stopping { pid: 7 });
        server.join().unwrap();
    }

    #[test]
    fn a_password_is_not_in_what_a_failed_parse_says() {
        let request = Request::AccountAdd {
            jid: "a@example.org".to_string(),
            password: Password::new("r0m30".to_string()),
        };
        let mut line = serde_json::to_vec(&request).unwrap();
        line.pop();
        let text = parse_request(&line).unwrap_err();
        assert!(!text.contains("r0m30"), "{text}");
    }
}
