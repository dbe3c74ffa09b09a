//! Places for lookups that are under way, shared fairly between those for whose sake they are made.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use crate::turns::Turns;

/// So many places, and who waits for one.
#[derive(Clone)]
pub struct Places {
    turns: Arc<Mutex<Turns<u64, oneshot::Sender<Place>>>>,
}

/// A place that is held as long as this lives.
pub struct Place {
    places: Option<Places>,
    who: u64,
}

impl Places {
    /// So many, all of them free.
    pub fn new(places: usize) -> Places {
        Places {
            turns: Arc::new(Mutex::new(Turns::new(places))),
        }
    }

    /// Waits for a place. Who gives up waiting gives up its turn.
    pub async fn get(&self, who: u64) -> Place {
        let (sender, receiver) = oneshot::channel();
        self.lock().wait(who, sender);
        self.let_in();
        receiver.await.expect("what waits has its turn some time")
    }

    /// Lets in whose turn it is.
    fn let_in(&self) {
        loop {
            // The lock is not held while a place is handed over: it may come back at once.
            let next = self.lock().let_in();
            let Some((who, sender)) = next else {
                return;
            };
            let place = Place {
                places: Some(self.clone()),
                who,
            };
            if let Err(mut place) = sender.send(place) {
                // Nobody waits for it any more. Given back here, not by `drop`: that would go one call
                // deeper for each of them.
                place.places = None;
                self.lock().leave(&who);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Turns<u64, oneshot::Sender<Place>>> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(places) = self.places.take() {
            places.lock().leave(&self.who);
            places.let_in();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    fn try_get(places: &Places, who: u64) -> Option<Place> {
        match poll(pin!(places.get(who))) {
            Poll::Ready(place) => Some(place),
            Poll::Pending => None,
        }
    }

    #[test]
    fn a_quarter_of_the_places_is_left_to_others() {
        let places = Places::new(4);
        let first = [1, 1, 1].map(|who| try_get(&places, who));
        assert!(first.iter().all(Option::is_some));
        assert!(try_get(&places, 1).is_none());
        let other = try_get(&places, 2);
        assert!(other.is_some());
        drop(first);
        assert!(try_get(&places, 1).is_some());
    }

    #[test]
    fn who_gives_up_waiting_holds_no_place_and_keeps_nobody_waiting() {
        let places = Places::new(1);
        let held = try_get(&places, 1).unwrap();
        {
            // A thousand that wait, and one to whom a place is given that it does not take.
            let mut waiting: Vec<_> = (0..1000).map(|_| Box::pin(places.get(2))).collect();
            for future in &mut waiting {
                assert!(poll(future.as_mut()).is_pending());
            }
            drop(held);
        }
        assert!(try_get(&places, 3).is_some());
        assert!(try_get(&places, 3).is_some(), "it was given back");
    }
}
