//! A start on a disk that fails is refused, with words that say what to do.

use super::{CONF, site_on};
use crate::common::server::{Server, command};
use crate::common::site::ended;

#[test]
fn a_full_disk_is_told_at_the_start() {
    let Some((site, disk)) = site_on(1 << 20, CONF) else {
        return;
    };
    disk.fill();
    let refused = ended(&mut command(&site), b"");
    assert_eq!(refused.status, 1, "{}", refused.stderr);
    let also = site.fails(1, &["account", "list"], b"");
    for said in [&refused.stderr, &also] {
        assert!(said.contains("/data/"), "{said}");
        // It depends on the file system which write is the first to fail.
        let remedies = [
            "make room on its file system",
            "whether its file system is full",
        ];
        assert!(remedies.iter().any(|words| said.contains(words)), "{said}");
    }
    disk.make_room();
    let command = command(&site);
    Server::start_by(site, command).stop();
}

#[test]
fn a_disk_that_is_mounted_read_only_is_told_at_the_start() {
    let Some((site, disk)) = site_on(1 << 20, CONF) else {
        return;
    };
    disk.remount("ro");
    let refused = ended(&mut command(&site), b"");
    assert_eq!(refused.status, 1, "{}", refused.stderr);
    for words in ["/data/", "Read-only file system", "mount its file system"] {
        assert!(refused.stderr.contains(words), "{}", refused.stderr);
    }
    disk.remount("rw");
    let command = command(&site);
    Server::start_by(site, command).stop();
}
