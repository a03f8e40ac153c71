//! Any file is a `mosquitto.db`, or an error; what is taken from it can be stored, and a broker begins with it.

use super::rows;
use midge::broker::journal::Batch;
use midge::persistence::import;
use std::collections::BTreeSet;
use std::io::{Seek, SeekFrom, Write};

/// When the import takes place, in milliseconds of Unix time.
const NOW: u64 = 1_700_000_000_000;

/// Takes `bytes` over.
pub fn feed(bytes: &[u8]) {
    let mut file = tempfile::NamedTempFile::new().expect("a temporary file");
    file.write_all(bytes)
        .and_then(|()| file.seek(SeekFrom::Start(0)))
        .expect("it can be written");
    let import = match import::read(file.path(), NOW) {
        Ok(import) => import,
        Err(error) => return assert!(!error.to_string().is_empty()),
    };
    assert!(import.warnings.len() <= import::WARNINGS_MAX + 1);
    assert!(!import.counts.to_string().is_empty());
    let batch = &import.batch;
    check_references(batch);
    if !batch.is_empty() {
        let counts = rows::restore_from(batch).expect("what was written can be read");
        assert_eq!(counts.misfits, 0, "{batch:?}");
    }
}

/// What is named is there.
fn check_references(batch: &Batch) {
    let sessions: BTreeSet<u64> = batch.sessions.iter().map(|it| it.id).collect();
    let messages: BTreeSet<u64> = batch.messages.iter().map(|it| it.id).collect();
    assert_eq!(sessions.len(), batch.sessions.len());
    assert_eq!(messages.len(), batch.messages.len());
    for it in &batch.subscriptions {
        assert!(sessions.contains(&it.session));
    }
    for it in &batch.deliveries {
        assert!(sessions.contains(&it.session));
        assert!(it.message.is_none_or(|row| messages.contains(&row)));
    }
    for it in &batch.received {
        assert!(sessions.contains(&it.session) && messages.contains(&it.message));
    }
}

fn file(version: u32, chunks: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = b"\0\xB5\0mosquitto db\0\0\0\0".to_vec();
    bytes.extend(version.to_be_bytes());
    for (kind, body) in chunks {
        bytes.extend(kind.to_be_bytes());
        bytes.extend((body.len() as u32).to_be_bytes());
        bytes.extend(body);
    }
    bytes
}

/// A file that Mosquitto wrote for our tests, and small ones of both versions. Those need not be right: they are
/// where the fuzzer begins.
pub fn seeds() -> Vec<Vec<u8>> {
    // The configuration: last identifier, whether it was shut down, sizes.
    let config = || {
        let mut body = 7u64.to_le_bytes().to_vec();
        body.extend([1, 8, 0, 0, 0, 0, 0, 0]);
        body
    };
    // A stored message: identifier, expiry, sizes, ports, then the texts.
    let message = |properties: &[u8]| {
        let mut body = 5u64.to_le_bytes().to_vec();
        body.extend(0i64.to_le_bytes());
        body.extend(2u32.to_be_bytes());
        body.extend(1u16.to_be_bytes());
        body.extend(0u16.to_be_bytes());
        body.extend(3u16.to_be_bytes());
        body.extend(1883u16.to_be_bytes());
        body.extend([1, 1, 0, 0]);
        body.extend(b"ca/bhi");
        body.extend(properties);
        body
    };
    let client = || {
        let mut body = 0i64.to_le_bytes().to_vec();
        body.extend(u32::MAX.to_be_bytes());
        body.extend(9u16.to_be_bytes());
        body.extend(1u16.to_be_bytes());
        body.extend(1883u16.to_be_bytes());
        body.extend([0; 6]);
        body.extend(b"c");
        body
    };
    let subscription = || {
        let mut body = 0u32.to_be_bytes().to_vec();
        body.extend(1u16.to_be_bytes());
        body.extend(3u16.to_be_bytes());
        body.extend([1, 0, 0, 0]);
        body.extend(b"ca/#");
        body
    };
    let client_message = || {
        let mut body = 5u64.to_le_bytes().to_vec();
        body.extend(3u16.to_be_bytes());
        body.extend(1u16.to_be_bytes());
        body.extend([1, 3, 0, 1, 0, 0, 0, 0]);
        body.extend(b"c");
        body
    };
    let retained = || 5u64.to_le_bytes().to_vec();
    vec![
        include_bytes!("../../integration/mosquitto-2.0.11.db").to_vec(),
        file(6, &[]),
        file(5, &[(1, config())]),
        file(
            6,
            &[
                (1, config()),
                (2, message(b"")),
                (4, retained()),
                (6, client()),
                (5, subscription()),
                (3, client_message()),
            ],
        ),
        file(
            6,
            &[(2, message(b"\x05\x26\0\x01k\0\x01v")), (4, retained())],
        ),
    ]
}
