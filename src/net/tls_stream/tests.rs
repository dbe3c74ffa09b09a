use std::net::Shutdown;

use openssl::ssl::ShutdownState;
use proptest::prelude::*;

use super::super::testing::{
    Dialog, Setup, client, connect, next, no_wish, nothing, shake, sockets,
};
use super::super::tls::{TlsSettings, With};
use super::super::transport::{BUFFER_BYTES, TlsFacts};
use super::*;

fn plain(setup: &Setup) -> (SocketTransport, TcpStream) {
    let (accepted, dialled) = sockets();
    let peer = accepted.peer_addr().unwrap();
    (
        SocketTransport::plain(accepted, peer, setup.contexts()).unwrap(),
        dialled,
    )
}

fn waiting_bytes(server: &SocketTransport) -> usize {
    match &server.state {
        State::Handshake(s) | State::Secure(s) => s.get_ref().out.len(),
        _ => 0,
    }
}

#[test]
fn clear_text_goes_both_ways() {
    let (mut server, mut client) = plain(&Setup::ecdsa());
    let mut buffers = Buffers::new();
    client.write_all(b"<stream>").unwrap();
    assert!(matches!(
        next(&mut server, &mut buffers).unwrap(),
        Read::Data(8)
    ));
    assert_eq!(&buffers.plain[..8], b"<stream>");
    assert_eq!(server.write(b"<features/>").unwrap(), 11);
    assert!(server.flush().unwrap());
    let mut got = [0; 11];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"<features/>");
    server.shutdown();
    assert_eq!(client.read(&mut got).unwrap(), 0);
    client.write_all(b"bye").unwrap();
    assert!(matches!(
        next(&mut server, &mut buffers).unwrap(),
        Read::Data(3)
    ));
    drop(client);
    assert!(matches!(
        next(&mut server, &mut buffers).unwrap(),
        Read::End
    ));
}

#[test]
fn tls_begins_on_a_used_socket() {
    let (mut server, mut dialled) = plain(&Setup::ecdsa());
    let mut buffers = Buffers::new();
    dialled.write_all(b"<starttls/>").unwrap();
    assert!(matches!(
        next(&mut server, &mut buffers).unwrap(),
        Read::Data(11)
    ));
    server.write(b"<proceed/>").unwrap();
    let mut got = [0; 10];
    dialled.read_exact(&mut got).unwrap();
    server.start_tls(Some("example.org")).unwrap();
    let (mut dialog, facts) = shake(server, client(dialled, nothing, no_wish)).unwrap();
    assert_eq!(facts.version, "TLSv1.3");
    dialog.chat();
}

// RFC 6120 §5.4.3.3; the injection of CVE-2011-0411.
#[test]
fn what_is_pipelined_behind_starttls_never_comes_out_of_tls() {
    let (mut server, mut dialled) = plain(&Setup::ecdsa());
    let mut buffers = Buffers::new();
    dialled.write_all(b"<starttls/><iq/>").unwrap();
    // All of it is in the caller's hands before the handshake: it sees what it must refuse.
    assert!(matches!(
        next(&mut server, &mut buffers).unwrap(),
        Read::Data(16)
    ));
    server.start_tls(None).unwrap();
    // Clear text that comes later is no handshake.
    dialled.write_all(b"<iq type='set'/>").unwrap();
    let error = next(&mut server, &mut buffers).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(matches!(server.read(&mut buffers), Ok(Read::End)));
}

/// SSL_get_error(3): the queue of errors must be empty before each operation.
#[test]
fn errors_of_others_on_the_same_thread_end_no_stream() {
    let leave_an_error = || openssl::x509::X509::from_der(b"none").unwrap_err().put();
    let (accepted, dialled) = sockets();
    let peer = accepted.peer_addr().unwrap();
    let mut server = SocketTransport::plain(accepted, peer, Setup::ecdsa().contexts()).unwrap();
    server.start_tls(None).unwrap();
    let mut buffers = Buffers::new();
    leave_an_error();
    assert!(matches!(server.read(&mut buffers), Ok(Read::Blocked)));
    let (mut dialog, _) = shake(server, client(dialled, nothing, no_wish)).unwrap();
    leave_an_error();
    let result = dialog.server.read(&mut dialog.buffers);
    assert!(matches!(result, Ok(Read::Blocked)), "{result:?}");
    leave_an_error();
    assert_eq!(dialog.server.write(b"text").unwrap(), 4);
    drop(ErrorStack::get());
}

#[test]
fn tls_cannot_begin_twice() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    assert_eq!(
        dialog.server.start_tls(None).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    dialog.chat();
}

#[test]
fn without_any_certificate_tls_does_not_begin() {
    let mut setup = Setup::new(&["example.org"]);
    setup.settings.domains[0].required = false;
    let (mut server, _client) = plain(&setup);
    assert_eq!(
        server.start_tls(None).unwrap_err().kind(),
        io::ErrorKind::Unsupported
    );
}

#[test]
fn what_follows_a_handshake_at_once_waits_behind_established() {
    let (accepted, dialled) = sockets();
    let peer = accepted.peer_addr().unwrap();
    let mut server =
        SocketTransport::direct_tls(accepted, peer, Setup::ecdsa().contexts()).unwrap();
    let mut client = client(dialled, nothing, no_wish);
    let mut buffers = Buffers::new();
    // The client has its Finished and its first words out before the server looks.
    while client.do_handshake().is_err() {
        assert!(matches!(server.read(&mut buffers), Ok(Read::Blocked)));
        std::thread::yield_now();
    }
    client.ssl_write(b"<stream>").unwrap();
    client.ssl_write(b"<iq/>").unwrap();
    client.get_ref().shutdown(Shutdown::Write).unwrap();
    let first = next(&mut server, &mut buffers).unwrap();
    assert!(matches!(first, Read::Established(_)), "{first:?}");
    assert!(server.has_buffered());
    let mut all = Vec::new();
    while let Read::Data(n) = next(&mut server, &mut buffers).unwrap() {
        all.extend_from_slice(&buffers.plain[..n]);
    }
    assert_eq!(all, b"<stream><iq/>");
    assert!(!server.has_buffered());
}

#[test]
fn half_a_handshake_waits_and_ends_with_the_peer() {
    let (mut server, mut dialled) = plain(&Setup::ecdsa());
    server.start_tls(None).unwrap();
    let mut buffers = Buffers::new();
    // A record header that promises more than comes.
    dialled.write_all(&[22, 3, 1, 2, 0, 1, 0, 1, 252]).unwrap();
    for _ in 0..100 {
        assert!(matches!(server.read(&mut buffers), Ok(Read::Blocked)));
    }
    assert_eq!(server.write(b"too early").unwrap(), 0);
    drop(dialled);
    assert!(matches!(
        next(&mut server, &mut buffers).unwrap(),
        Read::End
    ));
    assert_eq!(buffers.raw.len(), buffers.plain.len());
}

#[test]
fn a_handshake_that_never_ends_is_cut() {
    let (mut server, mut dialled) = plain(&Setup::ecdsa());
    server.start_tls(None).unwrap();
    let mut buffers = Buffers::new();
    // A ClientHello of 130,000 bytes, in records of 4,000.
    let mut record = vec![22, 3, 1, 0x0f, 0xa0, 1, 1, 0xfb, 0xd0, 3, 3];
    record.resize(5 + 4000, 0);
    let mut result = Ok(Read::Blocked);
    for _ in 0..30 {
        dialled.write_all(&record).unwrap();
        record[5..11].fill(0);
        result = server.read(&mut buffers);
        if result.is_err() {
            break;
        }
    }
    let text = result.unwrap_err().to_string();
    assert!(text.contains("longer than"), "{text}");
    // The shard's buffer came back from the failed connection.
    assert_eq!(buffers.raw.len(), buffers.plain.len());
}

#[test]
fn what_is_no_tls_is_refused_with_an_alert() {
    let (mut server, mut dialled) = plain(&Setup::ecdsa());
    server.start_tls(None).unwrap();
    let mut buffers = Buffers::new();
    dialled.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    let text = next(&mut server, &mut buffers).unwrap_err().to_string();
    assert!(text.contains("http request"), "{text}");
    assert!(server.write(b"x").is_err());
}

#[test]
fn a_reader_that_does_not_read_blocks_writing_and_costs_a_bounded_buffer() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    let text: Vec<u8> = (0..32 * 1024 * 1024u32).map(|n| (n % 251) as u8).collect();
    let mut written = 0;
    loop {
        match dialog.server.write(&text[written..]).unwrap() {
            0 => break,
            n => written += n,
        }
        assert!(waiting_bytes(&dialog.server) <= OUT_BYTES_MAX + 1024);
    }
    assert!(written < text.len(), "the kernel took all of it");
    assert!(!dialog.server.flush().unwrap());
    let mut got = Vec::new();
    while got.len() < text.len() {
        got.extend(dialog.client_reads().unwrap());
        written += dialog.server.write(&text[written..]).unwrap();
        dialog.server.flush().unwrap();
    }
    assert!(got == text);
    assert!(dialog.server.flush().unwrap());
    assert_eq!(waiting_bytes(&dialog.server), 0);
}

#[test]
fn a_flood_of_data_is_read_whole_and_in_order() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    let text: Vec<u8> = (0..3_000_000u32).map(|n| (n % 253) as u8).collect();
    let (mut sent, mut got) = (0, Vec::new());
    while got.len() < text.len() {
        if sent < text.len()
            && let Ok(n) = dialog.client.ssl_write(&text[sent..])
        {
            sent += n;
        }
        while let Read::Data(n) = dialog.server.read(&mut dialog.buffers).unwrap() {
            got.extend_from_slice(&dialog.buffers.plain[..n]);
        }
    }
    assert!(got == text);
}

#[test]
fn our_close_notify_comes_before_fin_and_reading_goes_on() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    dialog.server.write(b"</stream>").unwrap();
    dialog.server.shutdown();
    assert!(dialog.server.write(b"x").is_err());
    assert_eq!(dialog.client_reads().unwrap(), b"</stream>");
    assert!(dialog.client_reads().unwrap().is_empty());
    assert!(
        dialog
            .client
            .get_shutdown()
            .contains(ShutdownState::RECEIVED)
    );
    dialog.client_writes(b"</stream>");
    assert_eq!(dialog.server_reads_exactly(9), b"</stream>");
    dialog.client.shutdown().unwrap();
    assert!(matches!(dialog.server_reads().unwrap(), Read::End));
    assert!(matches!(dialog.server_reads().unwrap(), Read::End));
}

#[test]
fn the_peers_close_notify_ends_reading_and_not_writing() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    dialog.client_writes(b"</stream>");
    dialog.client.shutdown().unwrap();
    assert_eq!(dialog.server_reads_exactly(9), b"</stream>");
    assert!(matches!(dialog.server_reads().unwrap(), Read::End));
    dialog.server.write(b"</stream>").unwrap();
    assert_eq!(dialog.client_reads().unwrap(), b"</stream>");
}

#[test]
fn close_notify_and_fin_wait_for_what_is_still_unwritten() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    let text = vec![b'x'; 1024 * 1024];
    let mut total = 0;
    loop {
        match dialog.server.write(&text).unwrap() {
            0 => break,
            n => total += n,
        }
    }
    dialog.server.shutdown();
    assert!(!dialog.server.flush().unwrap());
    let mut got = 0;
    loop {
        let bytes = dialog.client_reads().unwrap();
        if bytes.is_empty() {
            break;
        }
        got += bytes.len();
        dialog.server.flush().unwrap();
    }
    assert_eq!(got, total);
}

#[test]
fn a_cut_or_reset_connection_is_the_end() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    dialog.client_writes(b"<iq/>");
    dialog.client.get_ref().shutdown(Shutdown::Write).unwrap();
    assert_eq!(dialog.server_reads_exactly(5), b"<iq/>");
    assert!(matches!(dialog.server_reads().unwrap(), Read::End));

    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    dialog.server.write(b"unread").unwrap();
    // Closing with bytes unread makes the kernel reset.
    let Dialog {
        server,
        client,
        buffers,
    } = &mut dialog;
    let mut byte = [0];
    while client.get_ref().peek(&mut byte).is_err() {
        std::thread::yield_now();
    }
    drop(std::mem::replace(
        client,
        super::super::testing::client(sockets().1, nothing, no_wish),
    ));
    assert!(matches!(next(server, buffers).unwrap(), Read::End));
}

#[test]
fn damaged_records_are_an_error_and_the_connection_stays_dead() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    let mut socket = dialog.client.get_ref();
    socket.write_all(&[23, 3, 3, 0, 32]).unwrap();
    socket.write_all(&[7; 32]).unwrap();
    assert_eq!(
        dialog.server_reads().unwrap_err().kind(),
        io::ErrorKind::InvalidData
    );
    assert!(matches!(dialog.server_reads().unwrap(), Read::End));
    assert!(dialog.server.write(b"x").is_err());
}

#[test]
fn a_short_read_is_the_last_only_if_the_poll_saw_no_fin() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    dialog.client_writes(b"one");
    dialog.server.readable(false);
    assert_eq!(dialog.server_reads_exactly(3), b"one");
    dialog.client_writes(b"two");
    // The event for these bytes is still to come; this step only ends the one before.
    assert!(matches!(
        dialog.server.read(&mut dialog.buffers),
        Ok(Read::Blocked)
    ));
    dialog.server.readable(false);
    assert_eq!(dialog.server_reads_exactly(3), b"two");
    dialog.client_writes(b"three");
    dialog.client.get_ref().shutdown(Shutdown::Write).unwrap();
    dialog.server.readable(true);
    assert_eq!(dialog.server_reads_exactly(5), b"three");
    assert!(dialog.server.has_buffered());
    assert!(matches!(dialog.server_reads().unwrap(), Read::End));
}

#[test]
fn delay_of_small_writes_is_off() {
    let (server, _client) = plain(&Setup::ecdsa());
    assert!(server.socket.nodelay().unwrap());
}

#[test]
fn transports_move_between_threads() {
    let (mut dialog, _) = Setup::ecdsa().connect(nothing, no_wish).unwrap();
    let mut dialog = std::thread::spawn(move || {
        dialog.chat();
        dialog
    })
    .join()
    .unwrap();
    dialog.chat();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn bytes_cut_anywhere_make_the_same_text(
        cuts in proptest::collection::vec(1usize..400, 1..200),
        small in 1usize..50,
    ) {
        // The client's bytes are taken down first, then played to the server in pieces.
        let setup = Setup::ecdsa();
        let (mut dialog, _) = connect(&setup.contexts(), None, nothing, no_wish).unwrap();
        let (near, mut far) = sockets();
        let real = std::mem::replace(dialog.client.get_mut(), near);
        for n in 0..40u8 {
            dialog.client_writes(&vec![n; 1 + usize::from(n) * 20]);
        }
        dialog.client.get_ref().shutdown(Shutdown::Write).unwrap();
        let mut encrypted = Vec::new();
        far.read_to_end(&mut encrypted).unwrap();
        let mut buffers = Buffers { raw: vec![0; 4096].into(), plain: vec![0; small].into(), received: 0 };
        let (mut got, mut at) = (Vec::new(), 0);
        let mut real = real;
        for cut in cuts.into_iter().cycle() {
            let piece = &encrypted[at..encrypted.len().min(at + cut)];
            if piece.is_empty() {
                break;
            }
            real.write_all(piece).unwrap();
            at += piece.len();
            while let Read::Data(n) = dialog.server.read(&mut buffers).unwrap() {
                prop_assert!(n > 0);
                got.extend_from_slice(&buffers.plain[..n]);
            }
        }
        let expected: Vec<u8> = (0..40u8).flat_map(|n| vec![n; 1 + usize::from(n) * 20]).collect();
        real.shutdown(Shutdown::Write).unwrap();
        while let Read::Data(n) = next(&mut dialog.server, &mut buffers).unwrap() {
            got.extend_from_slice(&buffers.plain[..n]);
        }
        prop_assert_eq!(got, expected);
    }
}

/// RFC 8446 §4.6.3: a key update carries nothing, and any number of them may follow each other. One
/// read must not go on for as long as they come, and they are counted as what they are, bytes.
#[test]
#[expect(unsafe_code, reason = "the openssl crate has no call for it")]
fn a_flood_of_key_updates_is_read_piece_by_piece_and_counted() {
    use foreign_types::ForeignTypeRef;
    use std::ffi::c_int;
    // Declared by <openssl/ssl.h> since 1.1.1.
    unsafe extern "C" {
        fn SSL_key_update(ssl: *mut openssl_sys::SSL, kind: c_int) -> c_int;
    }
    let contexts = Setup::ecdsa().contexts();
    let (mut dialog, _) = connect(&contexts, None, nothing, no_wish).unwrap();
    // The header of a record, the message with its type of content, and a tag.
    const UPDATE_BYTES: usize = 5 + 6 + 16;
    let updates = 3 * BUFFER_BYTES / UPDATE_BYTES;
    let mut sent = 0;
    let (mut pieces, mut received) = (0, 0);
    for _ in 0..1_000_000 {
        if received == updates * UPDATE_BYTES {
            break;
        }
        for _ in 0..(updates - sent).min(1_000) {
            // SAFETY: the pointer is that of the client's connection, which is there.
            assert_eq!(
                unsafe { SSL_key_update(dialog.client.ssl().as_ptr(), 0) },
                1
            );
            dialog.client.do_handshake().unwrap();
            sent += 1;
        }
        match dialog.server.read(&mut dialog.buffers).unwrap() {
            Read::Nothing => {
                pieces += 1;
                assert!((1..=BUFFER_BYTES).contains(&dialog.buffers.received));
                assert!(dialog.server.has_buffered());
                received += dialog.buffers.received;
            }
            Read::Blocked => {}
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, updates * UPDATE_BYTES);
    assert!(pieces >= 3);
    dialog.chat();
}

/// Drives both ends until each has its facts.
fn shake_servers(dialling: &mut SocketTransport, accepting: &mut SocketTransport) -> [TlsFacts; 2] {
    let mut buffers = Buffers::new();
    let mut facts = [None, None];
    for _ in 0..100_000 {
        for (end, found) in [&mut *dialling, &mut *accepting]
            .into_iter()
            .zip(&mut facts)
        {
            if found.is_none() {
                end.flush().unwrap();
                if let Read::Established(established) = end.read(&mut buffers).unwrap() {
                    *found = Some(*established);
                }
            }
        }
        if let [Some(dialled), Some(accepted)] = &facts {
            return [dialled.clone(), accepted.clone()];
        }
        std::thread::yield_now();
    }
    panic!("the handshake does not end");
}

fn servers(setup: &Setup) -> Arc<TlsContexts> {
    let settings = TlsSettings {
        with: With::Servers,
        ..setup.settings.clone()
    };
    Arc::new(TlsContexts::load(&settings).unwrap().0)
}

fn dial(
    setup: &Setup,
    address: SocketAddr,
    local: &str,
    is_direct: bool,
) -> io::Result<SocketTransport> {
    let dialled = Dialled {
        contexts: servers(setup),
        local: local.to_owned(),
        remote: "example.org".to_owned(),
    };
    SocketTransport::dial(address, dialled, is_direct)
}

/// XEP-0178 §3, XEP-0368 §3: both ends of a stream between servers show their certificates.
#[test]
fn a_connection_to_another_server_is_made_and_encrypted_by_both_certificates() {
    let setup = Setup::ecdsa();
    for is_direct in [false, true] {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut dialling = dial(&setup, address, "example.org", is_direct).unwrap();
        let (socket, peer) = listener.accept().unwrap();
        let mut accepting = SocketTransport::plain(socket, peer, servers(&setup)).unwrap();
        accepting.start_tls(None).unwrap();
        if !is_direct {
            dialling.start_tls(None).unwrap();
        }
        let [dialled, accepted] = shake_servers(&mut dialling, &mut accepting);
        assert_eq!(dialled.version, "TLSv1.3");
        for facts in [&dialled, &accepted] {
            assert_eq!(facts.peer_chain.len(), 1);
            assert_eq!(facts.sni.as_deref(), Some("example.org"));
            let alpn = is_direct.then_some("xmpp-server");
            assert_eq!(facts.alpn.as_deref(), alpn);
        }
    }
}

#[test]
fn a_domain_without_a_certificate_shows_none_to_other_servers() {
    let setup = Setup::ecdsa();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut dialling = dial(&setup, address, "example.net", true).unwrap();
    let (socket, peer) = listener.accept().unwrap();
    let mut accepting = SocketTransport::direct_tls(socket, peer, servers(&setup)).unwrap();
    let [dialled, accepted] = shake_servers(&mut dialling, &mut accepting);
    assert_eq!(
        (dialled.peer_chain.len(), accepted.peer_chain.len()),
        (1, 0)
    );
}

#[test]
fn nobody_who_listens_is_an_error_of_the_first_read_or_at_once() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut buffers = Buffers::new();
    let error = match dial(&Setup::ecdsa(), address, "example.org", false) {
        Err(error) => error,
        Ok(mut dialling) => loop {
            match dialling.read(&mut buffers) {
                Ok(Read::Blocked) => std::thread::yield_now(),
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error,
            }
        },
    };
    assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
}

/// XEP-0368 §3: who offers a protocol offers that of the port.
#[test]
fn a_client_is_no_server() {
    let setup = Setup::ecdsa();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let mut dialling = dial(&setup, address, "example.org", true).unwrap();
    let (socket, peer) = listener.accept().unwrap();
    let mut accepting = SocketTransport::direct_tls(socket, peer, setup.contexts()).unwrap();
    let mut buffers = Buffers::new();
    let error = loop {
        dialling.flush().unwrap();
        dialling.read(&mut buffers).unwrap();
        match accepting.read(&mut buffers) {
            Ok(Read::Blocked | Read::Nothing) => std::thread::yield_now(),
            Ok(other) => panic!("{other:?}"),
            Err(error) => break error,
        }
    };
    assert!(
        error.to_string().contains("application protocol"),
        "{error}"
    );
}
