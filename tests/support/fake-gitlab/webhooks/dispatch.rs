//! How webhooks go wrong on their way: dropped, late, twice, in another order.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Parcel, is_recursion, obstacle, send, uuid};
use crate::share::Share;
use crate::state::{Due, State};

/// How webhooks go wrong, and those that are on their way.
#[derive(Debug, Default)]
pub struct Dispatch {
    /// Those that are never sent.
    pub drop: Share,
    /// Those that come late; others overtake them.
    pub late: Late,
    /// Those that come twice.
    pub twice: Twice,
    /// How long it takes until a body is made. What it says is what is true then.
    pub worker_delay_ms: u64,
    /// Whether their dates are written in ISO 8601, as those of other kinds of webhooks are.
    pub iso_dates: bool,
    /// Whether all are kept until they are released.
    pub hold: bool,
    /// So many are gathered, and then sent in the opposite order; 0: none are.
    pub backwards: usize,
    /// What decides where chance does.
    pub chance: fastrand::Rng,
    /// How many wait for their time.
    pub delayed: usize,
    held: Vec<Parcel>,
    queues: HashMap<u64, VecDeque<Parcel>>,
    busy: HashSet<u64>,
}

/// Which webhooks come late.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Late {
    /// How many.
    pub share: Share,
    /// By how much.
    pub ms: u64,
}

/// Which webhooks come twice.
#[derive(Debug, Default, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Twice {
    /// How many.
    pub share: Share,
    /// What tells that they are the same.
    pub key: TwiceKey,
}

/// Whether both of two webhooks have one `Idempotency-Key`.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TwiceKey {
    /// As when one delivery is repeated.
    #[default]
    Same,
    /// As when the worker that makes deliveries is repeated.
    Other,
}

/// Sets a webhook on its way.
pub fn post(state: &mut State, parcel: Parcel, is_in_chain: bool) {
    if is_in_chain && is_recursion(state, &parcel) {
        return send::not_sent(state, &parcel, "recursion");
    }
    if let Some(reason) = obstacle(state, &parcel) {
        return send::not_sent(state, &parcel, reason);
    }
    let dispatch = &mut state.dispatch;
    if dispatch.drop.draw(&mut dispatch.chance) {
        return send::not_sent(state, &parcel, "dropped");
    }
    let mut parcels = vec![parcel];
    if dispatch.twice.share.draw(&mut dispatch.chance) {
        let mut second = parcels[0].clone();
        if dispatch.twice.key == TwiceKey::Other {
            second.key = uuid();
        }
        parcels.push(second);
    }
    for parcel in parcels {
        let dispatch = &mut state.dispatch;
        if dispatch.hold || dispatch.backwards > 0 {
            dispatch.held.push(parcel);
            if !dispatch.hold && dispatch.held.len() >= dispatch.backwards {
                release(state, Order::Backwards);
            }
        } else if dispatch.late.share.draw(&mut dispatch.chance) {
            let delay = Duration::from_millis(dispatch.late.ms);
            dispatch.delayed += 1;
            state.due.push(Due::Later(parcel, delay));
        } else {
            enqueue(state, parcel);
        }
    }
}

/// In which order what was kept is sent.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// As it happened.
    #[default]
    Kept,
    /// The last first.
    Backwards,
    /// By chance.
    Shuffled,
}

/// Sends what was kept; says how many that were.
pub fn release(state: &mut State, order: Order) -> usize {
    let mut held = std::mem::take(&mut state.dispatch.held);
    match order {
        Order::Kept => {}
        Order::Backwards => held.reverse(),
        Order::Shuffled => state.dispatch.chance.shuffle(&mut held),
    }
    let count = held.len();
    for parcel in held {
        enqueue(state, parcel);
    }
    count
}

/// Puts a webhook behind the others of its hook: those are sent one after the other.
pub fn enqueue(state: &mut State, parcel: Parcel) {
    let (dispatch, hook) = (&mut state.dispatch, parcel.hook);
    dispatch.queues.entry(hook).or_default().push_back(parcel);
    if dispatch.busy.insert(hook) {
        state.due.push(Due::Drain(hook));
    }
}

impl Dispatch {
    /// The next webhook of a hook; none: nobody sends for it any more.
    pub fn next(&mut self, hook: u64) -> Option<Parcel> {
        let parcel = self.queues.get_mut(&hook).and_then(VecDeque::pop_front);
        if parcel.is_none() {
            self.busy.remove(&hook);
        }
        parcel
    }

    /// How many are kept until they are released.
    pub const fn held(&self) -> usize {
        self.held.len()
    }

    /// How many are on their way: late, in line, or being sent.
    pub fn under_way(&self) -> usize {
        self.delayed + self.busy.len() + self.queues.values().map(VecDeque::len).sum::<usize>()
    }
}
