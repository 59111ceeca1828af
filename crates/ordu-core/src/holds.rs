//! Kudos that are promised to requests under way: taken off what a user can spend, until they are
//! paid or no longer needed.
//!
//! # Source
//! `generation.md` § 7.10.

use std::collections::BTreeMap;

use ordu_api::{RequestId, UserId};

use crate::Kudos;

/// What requests under way may still cost, by request, with the sum for each user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holds {
    by_request: BTreeMap<RequestId, (UserId, Kudos)>,
    by_user: BTreeMap<UserId, Kudos>,
}

impl Holds {
    /// Promises kudos of a user to a request, in place of what was promised to it before.
    pub fn hold(&mut self, request: RequestId, user: UserId, amount: Kudos) {
        self.release(request, None);
        if amount > Kudos::ZERO {
            self.by_request.insert(request, (user, amount));
            *self.by_user.entry(user).or_default() += amount;
        }
    }

    /// What was promised and is paid now, or `None` for all that is left, is no longer promised.
    pub fn release(&mut self, request: RequestId, paid: Option<Kudos>) {
        let Some((user, left)) = self.by_request.get_mut(&request) else {
            return;
        };
        let released = paid.unwrap_or(*left).at_least(Kudos::ZERO).min(*left);
        let user = *user;
        *left -= released;
        if *left == Kudos::ZERO {
            self.by_request.remove(&request);
        }
        let sum = self.by_user.entry(user).or_default();
        *sum -= released;
        if *sum == Kudos::ZERO {
            self.by_user.remove(&user);
        }
    }

    /// What is promised of a user's kudos; never negative.
    pub fn held(&self, user: UserId) -> Kudos {
        self.by_user.get(&user).copied().unwrap_or_default()
    }

    /// Whether nothing is promised.
    pub fn is_empty(&self) -> bool {
        self.by_request.is_empty() && self.by_user.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    #[derive(Debug, Clone, Copy)]
    enum Step {
        Hold(u8, u8, i64),
        Pay(u8, i64),
        End(u8),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let request = 0..6_u8;
        let step = prop_oneof![
            (request.clone(), 0..3_u8, -10..900_i64).prop_map(|(r, u, a)| Step::Hold(r, u, a)),
            (request.clone(), -10..500_i64).prop_map(|(r, a)| Step::Pay(r, a)),
            request.prop_map(Step::End),
        ];
        proptest::collection::vec(step, 0..40)
    }

    fn request(number: u8) -> RequestId {
        RequestId::from_uuid(Uuid::from_u128(number.into()))
    }

    fn user(number: u8) -> UserId {
        UserId::new(number.into()).unwrap()
    }

    proptest! {
        /// As if each user's holds were added up anew each time; at the end nothing is left.
        #[test]
        fn holds_are_what_is_left_of_each(steps in steps()) {
            let mut holds = Holds::default();
            let mut left: BTreeMap<u8, (u8, i64)> = BTreeMap::new();
            for step in steps {
                match step {
                    Step::Hold(number, of, milli) => {
                        holds.hold(request(number), user(of), Kudos::from_milli(milli));
                        left.insert(number, (of, milli.max(0)));
                    }
                    Step::Pay(number, milli) => {
                        holds.release(request(number), Some(Kudos::from_milli(milli)));
                        if let Some((_, left)) = left.get_mut(&number) {
                            *left = (*left - milli.max(0)).max(0);
                        }
                    }
                    Step::End(number) => {
                        holds.release(request(number), None);
                        left.remove(&number);
                    }
                }
                for of in 0..3 {
                    let sum = left.values().filter(|(by, _)| *by == of).map(|(_, left)| left).sum();
                    prop_assert_eq!(holds.held(user(of)), Kudos::from_milli(sum));
                }
            }
            for number in 0..6 {
                holds.release(request(number), None);
            }
            prop_assert!(holds.is_empty());
        }
    }
}
