//! A number of places that can change while some are taken, first come, first served.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The places.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    books: Mutex<Books>,
}

/// At any time: free places + taken places - owed = count.
#[derive(Debug)]
struct Books {
    count: usize,
    /// So many of those that are taken are beyond the count: they are not free again when they are given back.
    owed: usize,
}

/// A place that is taken; free again when this is dropped.
#[derive(Debug)]
pub struct Place(Arc<Places>);

impl Places {
    /// So many, all of them free.
    #[must_use]
    pub fn new(count: usize) -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(count)), books: Mutex::new(Books { count, owed: 0 }) })
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.books().count
    }

    /// From now on there are so many. What is taken stays taken.
    pub fn resize(&self, count: usize) {
        let mut books = self.books();
        if count >= books.count {
            let more = count - books.count;
            let paid = more.min(books.owed);
            books.owed -= paid;
            self.free.add_permits(more - paid);
        } else {
            let fewer = books.count - count;
            books.owed += fewer - self.free.forget_permits(fewer);
        }
        books.count = count;
    }

    /// Takes one if it is free and nobody has waited longer.
    pub fn try_take(self: &Arc<Self>) -> Option<Place> {
        Arc::clone(&self.free).try_acquire_owned().ok().map(|permit| self.place(permit))
    }

    /// Waits for one.
    pub async fn take(self: &Arc<Self>) -> Option<Place> {
        // It is never closed.
        Arc::clone(&self.free).acquire_owned().await.ok().map(|permit| self.place(permit))
    }

    /// Takes one even if there is none, for somebody who has it already.
    pub fn take_anyway(self: &Arc<Self>) -> Place {
        self.try_take().unwrap_or_else(|| {
            self.books().owed += 1;
            Place(Arc::clone(self))
        })
    }

    fn place(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Place {
        // It comes back by the books.
        permit.forget();
        Place(Arc::clone(self))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut books = self.0.books();
        if books.owed > 0 {
            books.owed -= 1;
        } else {
            self.0.free.add_permits(1);
        }
    }
}

/// Lets somebody begin to wait, and says whether that is needed.
#[cfg(test)]
pub(super) fn is_waiting(future: &mut (impl Future + Unpin)) -> bool {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut context).is_pending()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many are free.
    fn free(places: &Arc<Places>) -> usize {
        std::iter::from_fn(|| places.try_take()).collect::<Vec<_>>().len()
    }

    #[test]
    fn a_place_is_free_again_when_it_is_given_back() {
        let places = Places::new(2);
        let taken = places.try_take();
        assert!(taken.is_some());
        assert_eq!(free(&places), 1);
        drop(taken);
        assert_eq!(free(&places), 2);
    }

    #[test]
    fn places_that_went_while_they_were_taken_do_not_come_back() {
        let places = Places::new(3);
        let mut taken: Vec<Place> = (0..3).filter_map(|_| places.try_take()).collect();
        places.resize(1);
        assert_eq!((places.count(), free(&places)), (1, 0));
        taken.pop();
        taken.pop();
        assert_eq!(free(&places), 0, "the last one is still taken");
        taken.pop();
        assert_eq!(free(&places), 1);
        places.resize(3);
        assert_eq!(free(&places), 3);
    }

    #[test]
    fn growing_again_before_they_are_given_back_makes_no_more_than_there_are() {
        let places = Places::new(3);
        let taken: Vec<Place> = (0..3).filter_map(|_| places.try_take()).collect();
        places.resize(1);
        places.resize(4);
        assert_eq!(free(&places), 1);
        drop(taken);
        assert_eq!(free(&places), 4);
    }

    #[test]
    fn whoever_had_a_place_already_keeps_it_beyond_the_count() {
        let places = Places::new(1);
        let (first, second) = (places.take_anyway(), places.take_anyway());
        drop(first);
        assert_eq!(free(&places), 0, "the other one has it");
        drop(second);
        assert_eq!(free(&places), 1);
    }

    #[tokio::test]
    async fn who_waits_longest_comes_first_also_for_places_that_are_new() {
        let places = Places::new(0);
        let mut first = Box::pin(places.take());
        let mut second = Box::pin(places.take());
        assert!(is_waiting(&mut first) && is_waiting(&mut second));
        places.resize(1);
        assert!(places.try_take().is_none(), "others have waited longer");
        assert!(is_waiting(&mut second));
        drop(first.await);
        assert!(second.await.is_some());
    }
}
