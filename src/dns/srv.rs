//! The order in which the targets of SRV records are tried (RFC 2782; XEP-0368 §3).
//!
//! Both services of a domain make one list: `_xmpp-server` and `_xmpps-server` are mixed by
//! priority and weight as if they were one record set, so the operator of the domain decides which
//! kind of connection comes first. Chance is passed in.

use std::cmp::Reverse;
use std::net::{IpAddr, SocketAddr};

use super::Target;

/// What orders a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rank {
    /// Lower ones are tried first.
    pub priority: u16,
    /// The share of first attempts among those of one priority.
    pub weight: u16,
}

/// One connection to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// The index of the target in the list.
    pub target: usize,
    /// Where it is.
    pub address: SocketAddr,
}

/// Yields the indexes of all ranks, each once, in the order in which they are to be tried. `random`
/// yields a number from 0 to its argument, that one included, each as likely as the others.
///
/// Lists are bounded by [`crate::limits::DNS_TARGETS_MAX`], which the quadratic time hangs on.
pub fn order(ranks: &[Rank], mut random: impl FnMut(u32) -> u32) -> Vec<usize> {
    let mut left: Vec<usize> = (0..ranks.len()).collect();
    // Those of weight 0 come first within their priority, as the algorithm of the RFC wants it:
    // only so have they a small chance beside others.
    left.sort_by_key(|&index| (ranks[index].priority, ranks[index].weight != 0));
    let mut ordered = Vec::with_capacity(left.len());
    while let Some(&first) = left.first() {
        let priority = ranks[first].priority;
        let level = left.partition_point(|&index| ranks[index].priority == priority);
        let weight = |index: &usize| u32::from(ranks[*index].weight);
        let sum = left[..level].iter().map(weight).sum();
        let drawn = random(sum);
        let mut running = 0;
        let chosen = left[..level].iter().position(|index| {
            running += weight(index);
            running >= drawn
        });
        // A number above the sum, which `random` does not yield, chooses the last one.
        ordered.push(left.remove(chosen.unwrap_or(level - 1)));
    }
    ordered
}

/// A number from 0 to `most`, that one included, made of random bytes.
pub fn drawn(bytes: [u8; 8], most: u32) -> u32 {
    // The bias of 2^-32 is no matter.
    (u64::from_ne_bytes(bytes) % (u64::from(most) + 1)) as u32
}

/// Every address of every target in the order in which connections are to be tried (RFC 6120
/// §3.2.1). Targets without an address, and those that must not be contacted, have none.
pub fn attempts(targets: &[Target], random: impl FnMut(u32) -> u32) -> Vec<Attempt> {
    let ranks: Vec<Rank> = targets.iter().map(Target::rank).collect();
    let of_target = |target: usize| {
        let Target {
            addresses, port, ..
        } = &targets[target];
        addresses.iter().map(move |&ip| Attempt {
            target,
            address: SocketAddr::new(ip, *port),
        })
    };
    order(&ranks, random)
        .into_iter()
        .flat_map(of_target)
        .collect()
}

/// IPv6 and IPv4 addresses in turn, IPv6 first, so that a family that does not work costs at most
/// every other attempt. Within a family the order is kept.
pub fn alternate(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let (six, four): (Vec<IpAddr>, Vec<IpAddr>) = addresses.iter().partition(|ip| ip.is_ipv6());
    let mut placed: Vec<(usize, Reverse<bool>, IpAddr)> = Vec::with_capacity(addresses.len());
    for family in [six, four] {
        let of_family = family.into_iter().enumerate();
        placed.extend(of_family.map(|(at, ip)| (at, Reverse(ip.is_ipv6()), ip)));
    }
    placed.sort_by_key(|&(at, is_six, _)| (at, is_six));
    placed.into_iter().map(|(_, _, ip)| ip).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::dns::{Kind, Tlsa};

    /// A generator of its own (xorshift), so that a seed means the same draws for ever.
    struct Draws(u64);

    impl Draws {
        fn up_to(&mut self, max: u32) -> u32 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            let range = u64::from(max) + 1;
            u32::try_from((self.0 >> 16) % range).unwrap()
        }
    }

    fn rank(priority: u16, weight: u16) -> Rank {
        Rank { priority, weight }
    }

    fn ranks() -> impl Strategy<Value = Vec<Rank>> {
        let weight = prop_oneof![Just(0), Just(u16::MAX), any::<u16>()];
        let one = (0..4u16, weight).prop_map(|(priority, weight)| rank(priority, weight));
        proptest::collection::vec(one, 0..20)
    }

    proptest! {
        /// RFC 2782, "Priority" and "Weight".
        #[test]
        fn each_target_is_tried_once_and_lower_priorities_first(ranks in ranks(), seed in 1u64..) {
            let mut draws = Draws(seed);
            let ordered = order(&ranks, |max| draws.up_to(max));
            let priorities: Vec<u16> = ordered.iter().map(|&index| ranks[index].priority).collect();
            prop_assert!(priorities.is_sorted());
            let mut once = ordered;
            once.sort_unstable();
            prop_assert_eq!(once, (0..ranks.len()).collect::<Vec<_>>());
        }

        #[test]
        fn a_number_is_drawn_from_the_sum_of_the_weights_that_are_left(ranks in ranks()) {
            let mut sums = Vec::new();
            let ordered = order(&ranks, |max| { sums.push(max); max });
            for (at, &index) in ordered.iter().enumerate() {
                let left = ordered[at..].iter().filter(|&&other| {
                    ranks[other].priority == ranks[index].priority
                });
                let sum: u32 = left.map(|&other| u32::from(ranks[other].weight)).sum();
                prop_assert_eq!(sums[at], sum);
            }
        }
    }

    /// How often each of the ranks came first in so many draws.
    fn firsts(ranks: &[Rank], times: usize) -> Vec<usize> {
        let mut draws = Draws(0x5741_4e5a_4144);
        let mut counts = vec![0; ranks.len()];
        for _ in 0..times {
            counts[order(ranks, |max| draws.up_to(max))[0]] += 1;
        }
        counts
    }

    #[test]
    fn targets_come_first_about_as_often_as_their_weights_tell() {
        let counts = firsts(&[rank(5, 60), rank(5, 20), rank(5, 20)], 10_000);
        for (count, share) in counts.iter().zip([6_000, 2_000, 2_000]) {
            assert!(
                share * 9 / 10 < *count && *count < share * 11 / 10,
                "{counts:?}"
            );
        }
    }

    #[test]
    fn weight_0_comes_first_seldom_beside_others() {
        let counts = firsts(&[rank(5, 100), rank(5, 0)], 10_000);
        assert!(0 < counts[1] && counts[1] < 200, "{counts:?}");
        // The smallest number that can be drawn chooses the first of weight 0.
        assert_eq!(order(&[rank(5, 100), rank(5, 0)], |_| 0), [1, 0]);
        assert_eq!(order(&[rank(5, 100), rank(5, 0)], |_| 1), [0, 1]);
        assert_eq!(order(&[rank(1, 0), rank(1, 0)], |_| 0), [0, 1]);
    }

    #[test]
    fn a_number_above_the_sum_harms_nothing() {
        assert_eq!(order(&[rank(1, 2), rank(1, 3)], |_| u32::MAX), [1, 0]);
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn ipv6_and_ipv4_alternate_and_ipv6_is_first() {
        let all = [
            "192.0.2.1",
            "192.0.2.2",
            "2001:db8::1",
            "192.0.2.3",
            "2001:db8::2",
        ]
        .map(ip);
        let wanted = [
            "2001:db8::1",
            "192.0.2.1",
            "2001:db8::2",
            "192.0.2.2",
            "192.0.2.3",
        ]
        .map(ip);
        assert_eq!(alternate(&all), wanted);
        assert_eq!(alternate(&all[..2]), all[..2]);
        assert_eq!(alternate(&[]), Vec::<IpAddr>::new());
    }

    fn target(kind: Kind, rank: Rank, port: u16, addresses: &[&str]) -> Target {
        Target {
            kind,
            host: "xmpp.example.org".to_owned(),
            port,
            priority: rank.priority,
            weight: rank.weight,
            addresses: addresses.iter().map(|text| ip(text)).collect(),
            is_srv_secure: false,
            is_address_secure: false,
            tlsa: Tlsa::None,
            failure: None,
        }
    }

    /// XEP-0368 §3, rule 1.
    #[test]
    fn both_services_are_tried_in_one_order_and_each_target_at_all_its_addresses() {
        let targets = [
            target(
                Kind::StartTls,
                rank(10, 0),
                5269,
                &["2001:db8::1", "192.0.2.1"],
            ),
            target(Kind::StartTls, rank(30, 0), 5269, &["192.0.2.3"]),
            target(Kind::DirectTls, rank(5, 0), 5270, &["192.0.2.1"]),
            target(Kind::DirectTls, rank(20, 0), 5270, &[]),
        ];
        let found: Vec<(usize, String)> = attempts(&targets, |_| 0)
            .into_iter()
            .map(|attempt| (attempt.target, attempt.address.to_string()))
            .collect();
        let wanted = [
            (2, "192.0.2.1:5270"),
            (0, "[2001:db8::1]:5269"),
            (0, "192.0.2.1:5269"),
            (1, "192.0.2.3:5269"),
        ];
        assert_eq!(
            found,
            wanted.map(|(target, address)| (target, address.to_owned()))
        );
    }
}
