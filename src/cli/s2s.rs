//! `stanzad s2s list`: the streams with other servers.

use super::ctl::{Reach, duration, unexpected};
use super::{Failure, print, print_json, remark, table};
use crate::server::control::{PairInfo, Reply, Request, ServerStreamInfo};

/// `stanzad s2s list`
pub fn list(server: &Reach, domain: Option<String>, json: bool) -> Result<(), Failure> {
    let reply = server.ask(&Request::S2sList { domain })?;
    let Reply::S2sList { servers, left_out } = &reply else {
        return Err(unexpected(&reply));
    };
    if json {
        return print_json(&serde_json::json!({ "servers": servers, "left_out": left_out }));
    }
    let rows: Vec<_> = servers.iter().flat_map(rows).collect();
    let heading = [
        "SERVER",
        "DOMAIN HERE",
        "STREAM",
        "PROVEN BY",
        "STATE",
        "WAITING",
        "RECEIPTS",
        "IDLE",
        "AGE",
        "ADDRESS",
        "TLS, OR WHY NOT",
    ];
    print(&table(heading, &rows))?;
    if *left_out > 0 {
        remark(format_args!(
            "{left_out} more are not listed; name a domain to see its streams"
        ));
    }
    Ok(())
}

/// A row for each proven pair, or one for what is not proven yet.
fn rows(server: &ServerStreamInfo) -> Vec<[String; 11]> {
    if server.proven.is_empty() {
        let named = |name: &Option<String>| name.clone().unwrap_or_else(|| "?".to_owned());
        return vec![row(
            server,
            named(&server.remote),
            named(&server.local),
            "-".to_owned(),
        )];
    }
    let pairs = server.proven.iter();
    pairs
        .map(|pair| row(server, pair.remote.clone(), pair.local.clone(), proof(pair)))
        .collect()
}

fn row(server: &ServerStreamInfo, remote: String, local: String, proof: String) -> [String; 11] {
    let time = |seconds: Option<u64>| seconds.map_or_else(|| "-".to_owned(), duration);
    let stream = match (&server.direction, server.both_ways) {
        (None, _) => "none".to_owned(),
        (Some(direction), false) => direction.clone(),
        (Some(direction), true) => format!("{direction}, both ways"),
    };
    let state = match server.next_try_seconds {
        Some(seconds) => format!("next try in {}", duration(seconds)),
        None => server.state.clone(),
    };
    [
        remote,
        local,
        stream,
        proof,
        state,
        server.waiting.to_string(),
        server.receipts.clone().unwrap_or_else(|| "-".to_owned()),
        time(server.idle_seconds),
        time(server.age_seconds),
        server.address.clone().unwrap_or_else(|| "-".to_owned()),
        encryption(server),
    ]
}

fn proof(pair: &PairInfo) -> String {
    let mut text = pair.peer_proven_by.clone();
    if let Some(ours) = &pair.proven_by_us {
        text.push_str(&format!(", we by {ours}"));
    }
    if let Some(since) = &pair.key_changed {
        text.push_str(&format!(", NEW KEY since {since}"));
    }
    text
}

fn encryption(server: &ServerStreamInfo) -> String {
    if let Some(reason) = &server.reason {
        return reason.clone();
    }
    let parts = [&server.tls_version, &server.cipher, &server.group];
    let tls: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
    match (tls.is_empty(), server.direct_tls) {
        (true, _) if server.direction.is_none() => "-".to_owned(),
        (true, _) => "unencrypted".to_owned(),
        (false, true) => format!("direct TLS, {}", tls.join(" ")),
        (false, false) => format!("STARTTLS, {}", tls.join(" ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(remote: &str, ours: Option<&str>) -> PairInfo {
        PairInfo {
            local: "example.org".to_owned(),
            remote: remote.to_owned(),
            peer_proven_by: "certificate".to_owned(),
            key_changed: None,
            proven_by_us: ours.map(str::to_owned),
        }
    }

    #[test]
    fn each_proven_pair_has_a_row_with_both_proofs() {
        let server = ServerStreamInfo {
            direction: Some("dialled".to_owned()),
            proven: vec![
                pair("example.net", Some("EXTERNAL")),
                pair("example.com", None),
            ],
            tls_version: Some("TLSv1.3".to_owned()),
            direct_tls: true,
            receipts: Some("answers pings".to_owned()),
            ..ServerStreamInfo::default()
        };
        let rows = rows(&server);
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[0][..2], ["example.net", "example.org"]);
        assert_eq!(rows[0][3], "certificate, we by EXTERNAL");
        assert_eq!(rows[1][3], "certificate");
        let changed = PairInfo {
            key_changed: Some("2026-11-28T15:00:00Z".to_owned()),
            ..pair("example.net", None)
        };
        assert_eq!(
            proof(&changed),
            "certificate, NEW KEY since 2026-11-28T15:00:00Z"
        );
        assert_eq!(rows[0][6], "answers pings");
        assert_eq!(rows[0][10], "direct TLS, TLSv1.3");
    }

    #[test]
    fn a_link_without_a_stream_tells_why_and_when_it_is_tried_again() {
        let server = ServerStreamInfo {
            remote: Some("example.net".to_owned()),
            local: Some("example.org".to_owned()),
            state: "waiting".to_owned(),
            waiting: 3,
            reason: Some("nobody listens".to_owned()),
            next_try_seconds: Some(61),
            ..ServerStreamInfo::default()
        };
        let [row] = &rows(&server)[..] else {
            panic!("one row")
        };
        let expected = [
            "example.net",
            "example.org",
            "none",
            "-",
            "next try in 1m 1s",
            "3",
            "-",
            "-",
            "-",
            "-",
            "nobody listens",
        ];
        assert_eq!(row[..], expected);
    }

    #[test]
    fn a_stream_without_tls_is_called_so() {
        let server = ServerStreamInfo {
            direction: Some("accepted".to_owned()),
            ..ServerStreamInfo::default()
        };
        assert_eq!(rows(&server)[0][10], "unencrypted");
        assert_eq!(rows(&server)[0][0], "?");
    }
}
