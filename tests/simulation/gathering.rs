//! What clients do about their contacts, as it comes to mind.

use crate::world::World;

impl World {
    /// A client that has bound its resource begins as most do.
    pub fn begin_session(&mut self, index: usize) {
        if self.clients[index].is_repairing {
            return self.repair_session(index);
        }
        if !self.chance.one_in(5) {
            self.get_roster(index);
        }
        if !self.chance.one_in(8) {
            self.say_available(index);
        }
    }

    /// A client does something about its contacts.
    pub fn socialize(&mut self, index: usize) {
        match self.chance.within(0..=99) {
            0..=9 => self.get_roster(index),
            10..=19 => self.set_item(index),
            20..=24 => self.remove_item(index),
            25..=27 => self.ask_what_is_refused(index),
            28..=69 => self.signal_somebody(index),
            70..=84 => self.say_something(index),
            85..=91 => {
                let to = self.somebody();
                self.say_to(index, to);
            }
            92..=94 => {
                let to = match self.chance.one_in(3) {
                    true => self.somebody(),
                    false => self.contact(index),
                };
                self.probe(index, &to);
            }
            _ => {
                let to = self.other_account(index);
                let type_ = self.chance.pick(&["chat", "normal"]);
                self.send_message_to(index, type_, to);
            }
        }
    }

    fn say_something(&mut self, index: usize) {
        match self.chance.one_in(4) {
            true => self.say_unavailable(index),
            false => self.say_available(index),
        }
    }
}
