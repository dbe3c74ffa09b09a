//! A reload: conf file and certificates are read again, and put in force if both are fine.

use std::sync::{Arc, PoisonError};

use crate::config::{Settings, reload};
use crate::server::control::ReloadInfo;
use crate::server::generation::{generation, load_certificates};
use crate::server::{
    Core, conf_warnings, dns_problem, dns_settings, notify, privileges, sockets, throttle_limits,
};
use crate::shard::Post;
use crate::shard::listener::Kind;

impl Core {
    /// Reads conf file and certificates again, and puts them in force if both are fine.
    ///
    /// # Errors
    /// Everything that is wrong, in lines; nothing has changed then.
    pub fn reload(&self) -> Result<ReloadInfo, String> {
        let _one_at_a_time = self
            .reloading
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        notify(&[
            sd_notify::NotifyState::Reloading,
            sd_notify::NotifyState::monotonic_usec_now().unwrap_or(sd_notify::NotifyState::Ready),
        ]);
        let result = self.load_again();
        notify(&[sd_notify::NotifyState::Ready]);
        result
    }

    fn load_again(&self) -> Result<ReloadInfo, String> {
        let path = self
            .path
            .as_ref()
            .ok_or("this server runs without a conf file")?;
        let reloaded = reload(path, &self.settings()).map_err(|problems| problems.to_string())?;
        let settings = Arc::new(reloaded.settings);
        let loaded = load_certificates(&settings, Some(&self.loaded().contexts))
            .map_err(|problems| problems.join("\n"))?;
        let loaded = Arc::new(loaded);
        let mut warnings = conf_warnings(&settings, Some(path.as_path()));
        warnings.extend(loaded.warnings.iter().cloned());
        // The last that can fail: nothing has changed yet.
        self.dns
            .configure(&dns_settings(&settings))
            .map_err(|error| dns_problem(&settings, &error))?;
        *self.loaded.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&loaded);
        if let Err(error) = self.logging.apply(&settings.log) {
            warnings.push(format!("the log stays where it was: {error}"));
        }
        self.throttle.set_limits(throttle_limits(&settings));
        privileges::admit_connections_again(&self.open_files);
        self.listener.reload(loaded.contexts.clone());
        warnings.extend(self.listen_for_components(&settings));
        let generation = generation(&settings, &loaded, &self.open_files, &self.streams);
        for shard in &self.shards {
            shard.send(vec![Post::Reload(Arc::clone(&generation))]);
        }
        let number = settings.generation;
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = settings;
        for warning in &warnings {
            log::warn!(warning; "configuration warning");
        }
        for option in &reloaded.restart {
            log::warn!(option; "changed, but takes effect only after a restart");
        }
        log::info!(generation = number; "reloaded");
        Ok(ReloadInfo {
            generation: number,
            warnings,
            needs_restart: reloaded.restart,
        })
    }

    /// Listens for components, if these are the first. Gives what did not work.
    fn listen_for_components(&self, settings: &Settings) -> Vec<String> {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let kind = Kind::Component.name();
        if listeners.iter().any(|(name, _)| *name == kind) {
            return Vec::new();
        }
        let (sockets, problems) = sockets::open_for_components(settings);
        for socket in &sockets {
            log::info!(kind, address:% = socket.address; "listening");
            listeners.push((kind, socket.address));
        }
        if !sockets.is_empty() {
            self.listener.listen(sockets);
        }
        problems
    }
}
