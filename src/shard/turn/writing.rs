//! The turn's seventh step: each connection with output is written once, gathered, and ended if that
//! was the last.

use super::{Outside, Shard};
use crate::limits::OUTPUT_HOLD_BYTES;
use crate::router;
use crate::shard::connection::{Connection, Ending};
use crate::slots::Key;

impl Shard {
    pub(super) fn write_all(&mut self, outside: &mut dyn Outside) {
        let dirty = self.router.out.outputs.take_dirty();
        for &key in &dirty {
            self.write(key, outside);
        }
        self.router.out.outputs.reuse(dirty);
    }

    pub(super) fn write(&mut self, key: Key, outside: &mut dyn Outside) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        let outputs = &mut self.router.out.outputs;
        if outputs.is_use(key) {
            connection.stream.note_written(self.router.now.mono);
        }
        let was_holding = outputs.len(key) > OUTPUT_HOLD_BYTES;
        let result = write_output(connection, key, outputs);
        let is_holding = outputs.len(key) > OUTPUT_HOLD_BYTES;
        match result {
            Err(error) => {
                log::debug!(stream = connection.stream.origin().stream, error:%; "connection failed");
                // What failed first tells more, as that nobody listens.
                let failure = || error.to_string().into();
                connection.failure.get_or_insert_with(failure);
                self.remove(key, outside);
                return;
            }
            Ok(false) => {
                connection.is_blocked = true;
                // A peer that reads nothing is not waited for when the stream is over.
                if connection.ending == Ending::Drop {
                    let until = connection.stream.deadline(&self.generation.settings);
                    if until.is_none_or(|until| until <= self.router.now.mono) {
                        self.remove(key, outside);
                    }
                    return;
                }
            }
            Ok(true) => self.written(key, outside),
        }
        if was_holding && !is_holding {
            self.list(key);
            let component = self.connections.get(key).and_then(|c| c.stream.component());
            if let Some(component) = component {
                self.router.component_writable(component);
            }
            self.router.stream_writable(key);
        }
    }

    /// Everything is sent.
    fn written(&mut self, key: Key, outside: &mut dyn Outside) {
        let Some(connection) = self.connections.get_mut(key) else {
            return;
        };
        match std::mem::take(&mut connection.ending) {
            Ending::No => {}
            Ending::IsShut => connection.ending = Ending::IsShut,
            Ending::Shutdown => {
                connection.transport.shutdown();
                connection.ending = Ending::IsShut;
                // close_notify and FIN may have to wait for the socket; the next edge sends them.
                match connection.transport.flush() {
                    Ok(is_sent) => connection.is_blocked = !is_sent,
                    Err(_) => self.remove(key, outside),
                }
            }
            Ending::Drop => {
                connection.transport.shutdown();
                if let Err(error) = connection.transport.flush() {
                    log::trace!(error:%; "end not sent");
                }
                self.remove(key, outside);
            }
            Ending::StartTls(domain) => {
                if let Err(error) = connection.transport.start_tls(Some(&domain)) {
                    log::warn!(domain = domain.as_str(), error:%; "TLS not started");
                    self.remove(key, outside);
                    return;
                }
                self.list(key);
            }
        }
    }
}

/// Writes a connection's output. True if everything has gone to the socket.
fn write_output(
    connection: &mut Connection,
    key: Key,
    outputs: &mut router::effects::Outputs,
) -> std::io::Result<bool> {
    loop {
        let bytes = outputs.bytes(key);
        if bytes.is_empty() {
            outputs.consume(key, 0);
            return connection.transport.flush();
        }
        if connection.ending == Ending::IsShut {
            // What comes after our end of the stream goes nowhere.
            let len = bytes.len();
            outputs.consume(key, len);
            continue;
        }
        let taken = connection.transport.write(bytes)?;
        if taken == 0 {
            return Ok(false);
        }
        outputs.consume(key, taken);
    }
}
