//! The control socket over real unix sockets in directories of their own.

use std::sync::Mutex;

use super::*;
use crate::server::control::{CallError, Password, call, call_until_gone};

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
