//! Subscriptions: who supports the horde with money each month, and what that is worth in kudos.
//!
//! Knows no payment service: a document of subscriptions comes from outside.
//!
//! # Source
//! `community.md` § 2.9, § 11.

use std::collections::{BTreeMap, BTreeSet};

use ordu_api::UserId;
use serde::{Deserialize, Serialize};

use crate::Kudos;

/// The smallest monthly pledge that is thanked by name.
const LEAST_PATRON: u32 = 3;

/// Who pledges as much is a sponsor.
const LEAST_SPONSOR: u32 = 100;

/// Yearly plans, by what they come to.
const YEARLY: std::ops::RangeInclusive<u32> = 102..=108;

/// What a pledge of so many whole units of money is worth each month; `None` if nobody decided.
pub fn patreon_monthly(pledge: u32) -> Option<Kudos> {
    Some(Kudos::new(match pledge {
        0..10 => 10_000 * i64::from(pledge),
        10 => 150_000,
        24 => 600_000,
        25 => 900_000,
        50 | 100 => 1_500_000,
        _ if YEARLY.contains(&pledge) => 150_000,
        _ => return None,
    }))
}

/// What a product is worth each month; `None` if nobody decided.
pub fn stripe_monthly(product: &str) -> Option<Kudos> {
    Some(Kudos::new(match product {
        "Superior Person" => 20_000,
        "Recognised" => 75_000,
        // The product is spelled like this.
        "Cherised" => 200_000,
        "Treasured" => 700_000,
        "Celebrated" | "Sponsor" => 1_500_000,
        _ => return None,
    }))
}

/// The document: everybody who subscribed, by payment service.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    /// Members of Patreon.
    pub patreon: Vec<Patron>,
    /// Subscriptions of Stripe.
    pub stripe: Vec<Subscription>,
}

/// A member of Patreon.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Patron {
    /// The account, as a number or `name#id`; nobody is given kudos without it.
    #[serde(deserialize_with = "number_or_text")]
    pub stable_id: Option<String>,
    /// The name at Patreon.
    pub name: Option<String>,
    /// How the member wants to be called.
    pub alias: Option<String>,
    /// In whole units of money.
    pub pledge: u32,
    /// Whether the pledge holds; it does if nothing is said.
    #[serde(default = "yes")]
    pub active: bool,
    /// Where a sponsor can be found.
    pub sponsor_link: Option<String>,
}

/// A subscription of Stripe.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Subscription {
    /// The account, as a number or `name#id`.
    #[serde(alias = "horde", deserialize_with = "number_or_text")]
    pub horde_id: Option<String>,
    /// The customer's address; without an account, the one that can be reached there counts.
    pub email: Option<String>,
    /// The name of the product.
    pub product: String,
    /// The customer's name.
    pub name: Option<String>,
    /// How the customer wants to be called.
    pub alias: Option<String>,
    /// In whole units of money, for the list of those who are thanked.
    pub pledge: u32,
    /// Whether it holds; it does if nothing is said.
    #[serde(default = "yes")]
    pub active: bool,
    /// Where a sponsor can be found.
    pub sponsor_link: Option<String>,
}

const fn yes() -> bool {
    true
}

/// An account may be written as a JSON number.
fn number_or_text<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either {
        Number(i64),
        Text(String),
    }
    let read = Option::<Either>::deserialize(from)?;
    Ok(read.map(|read| match read {
        Either::Number(number) => number.to_string(),
        Either::Text(text) => text,
    }))
}

/// What the document amounts to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Subscribers {
    monthly: BTreeMap<UserId, Kudos>,
    patrons: BTreeSet<UserId>,
    thanked: Vec<Thanked>,
    unknown: Vec<String>,
}

/// Somebody who is thanked by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thanked {
    /// What to call them.
    pub name: String,
    /// In whole units of money.
    pub pledge: u32,
    /// Where to find them.
    pub url: Option<String>,
}

impl Subscribers {
    /// Reads a document; `by_contact` says who can be reached at which address.
    pub fn new(document: &Document, by_contact: &BTreeMap<String, UserId>) -> Self {
        let mut found = Self::default();
        for patron in document.patreon.iter().filter(|patron| patron.active) {
            found.add_patron(patron);
        }
        for subscription in document.stripe.iter().filter(|one| one.active) {
            found.add_subscription(subscription, by_contact);
        }
        // Stable: equals stay in the document's order.
        found
            .thanked
            .sort_by_key(|one| std::cmp::Reverse(one.pledge));
        found
    }

    fn add_patron(&mut self, patron: &Patron) {
        let worth = patreon_monthly(patron.pledge);
        if worth.is_none() {
            self.unknown.push(format!("a pledge of {}", patron.pledge));
        }
        if let Some(user) = account(patron.stable_id.as_deref()) {
            self.patrons.insert(user);
            self.give(user, worth.unwrap_or_default());
        }
        let name = patron.alias.as_ref().or(patron.name.as_ref());
        self.thank(name, patron.pledge, patron.sponsor_link.as_ref());
    }

    fn add_subscription(
        &mut self,
        subscription: &Subscription,
        by_contact: &BTreeMap<String, UserId>,
    ) {
        let worth = stripe_monthly(&subscription.product);
        if worth.is_none() {
            self.unknown
                .push(format!("the product `{}`", subscription.product));
        }
        let reached = || by_contact.get(subscription.email.as_ref()?).copied();
        let user = account(subscription.horde_id.as_deref()).or_else(reached);
        if let Some(user) = user {
            self.give(user, worth.unwrap_or_default());
        }
        let name = subscription.alias.as_ref().or(subscription.name.as_ref());
        self.thank(
            name,
            subscription.pledge,
            subscription.sponsor_link.as_ref(),
        );
    }

    fn give(&mut self, user: UserId, amount: Kudos) {
        *self.monthly.entry(user).or_default() += amount;
    }

    fn thank(&mut self, name: Option<&String>, pledge: u32, url: Option<&String>) {
        if let Some(name) = name.filter(|_| pledge >= LEAST_PATRON) {
            self.thanked.push(Thanked {
                name: name.clone(),
                pledge,
                url: url.cloned(),
            });
        }
    }

    /// What an account gets each month for its subscriptions.
    pub fn monthly(&self, user: UserId) -> Kudos {
        self.monthly.get(&user).copied().unwrap_or_default()
    }

    /// Everybody who gets something each month.
    pub fn entitled(&self) -> impl Iterator<Item = UserId> {
        let entitled = self.monthly.iter();
        let entitled = entitled.filter(|(_, amount)| **amount > Kudos::ZERO);
        entitled.map(|(user, _)| *user)
    }

    /// Whether an account belongs to a member of Patreon.
    pub fn is_patron(&self, user: UserId) -> bool {
        self.patrons.contains(&user)
    }

    /// Those who are thanked by name, the largest pledge first.
    pub fn patrons(&self) -> impl Iterator<Item = &Thanked> {
        let all = self.thanked.iter();
        all.filter(|one| one.pledge < LEAST_SPONSOR)
    }

    /// Those who are thanked with a link.
    pub fn sponsors(&self) -> impl Iterator<Item = &Thanked> {
        let all = self.thanked.iter();
        all.filter(|one| one.pledge >= LEAST_SPONSOR)
    }

    /// What nobody decided the worth of.
    pub fn unknown(&self) -> &[String] {
        &self.unknown
    }
}

/// The account that was named; the one that everybody shares is nobody's.
fn account(named: Option<&str>) -> Option<UserId> {
    UserId::from_alias(named?).filter(|user| *user != UserId::ANONYMOUS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pledges_are_worth_what_the_table_says() {
        let table = [
            (0, Some(0)),
            (1, Some(10_000)),
            (9, Some(90_000)),
            (10, Some(150_000)),
            (11, None),
            (23, None),
            (24, Some(600_000)),
            (25, Some(900_000)),
            (26, None),
            (50, Some(1_500_000)),
            (99, None),
            (100, Some(1_500_000)),
            (101, None),
            (102, Some(150_000)),
            (108, Some(150_000)),
            (109, None),
            (u32::MAX, None),
        ];
        for (pledge, worth) in table {
            assert_eq!(patreon_monthly(pledge), worth.map(Kudos::new), "{pledge}");
        }
    }

    #[test]
    fn products_are_worth_what_the_table_says() {
        let table = [
            ("Superior Person", Some(20_000)),
            ("Recognised", Some(75_000)),
            ("Cherised", Some(200_000)),
            ("Cherished", None),
            ("Treasured", Some(700_000)),
            ("Celebrated", Some(1_500_000)),
            ("Sponsor", Some(1_500_000)),
            ("", None),
        ];
        for (product, worth) in table {
            assert_eq!(stripe_monthly(product), worth.map(Kudos::new), "{product}");
        }
    }

    fn read(text: &str) -> Subscribers {
        let document: Document = serde_json::from_str(text).unwrap();
        let user = |number| UserId::new(number).unwrap();
        let by_contact = BTreeMap::from([("a@b.c".to_owned(), user(9))]);
        Subscribers::new(&document, &by_contact)
    }

    #[test]
    fn accounts_are_found_by_alias_number_or_address() {
        let found = read(
            r#"{"patreon": [{"stable_id": "a#1", "pledge": 5, "name": "A"},
                            {"stable_id": 2, "pledge": 11},
                            {"stable_id": "0", "pledge": 5},
                            {"stable_id": "b#3", "pledge": 5, "active": false},
                            {"pledge": 5, "name": "unlinked"}],
                "stripe": [{"horde_id": "a#1", "product": "Recognised"},
                           {"horde": "4", "product": "Treasured"},
                           {"email": "a@b.c", "product": "Sponsor", "active": true},
                           {"email": "nobody", "product": "Wonder"}]}"#,
        );
        let monthly = |number| found.monthly(UserId::new(number).unwrap());
        assert_eq!(monthly(1), Kudos::new(125_000));
        assert_eq!(monthly(4), Kudos::new(700_000));
        assert_eq!(monthly(9), Kudos::new(1_500_000));
        assert_eq!([monthly(0), monthly(2), monthly(3)], [Kudos::ZERO; 3]);
        let entitled: Vec<i64> = found.entitled().map(UserId::get).collect();
        assert_eq!(entitled, [1, 4, 9]);
        let patrons = [1, 2, 3, 4, 9].map(|number| found.is_patron(UserId::new(number).unwrap()));
        assert_eq!(patrons, [true, true, false, false, false]);
        assert_eq!(found.unknown(), ["a pledge of 11", "the product `Wonder`"]);
    }

    #[test]
    fn who_gives_most_is_thanked_first() {
        let found = read(
            r#"{"patreon": [{"name": "two", "pledge": 2}, {"name": "three", "pledge": 3},
                            {"name": "x", "alias": "ninety", "pledge": 99},
                            {"name": "hundred", "pledge": 100, "sponsor_link": "https://x"}],
                "stripe": [{"name": "five", "product": "Recognised", "pledge": 5}]}"#,
        );
        let names: Vec<&str> = found.patrons().map(|one| one.name.as_str()).collect();
        assert_eq!(names, ["ninety", "five", "three"]);
        let sponsors: Vec<_> = found.sponsors().map(|one| one.url.as_deref()).collect();
        assert_eq!(sponsors, [Some("https://x")]);
    }
}
