//! How often an address may be wrong: a few times at once, then a few times a minute. Sans-IO: the clock comes in.
//!
//! An IPv6 address counts with its /64, since a guesser has all of that. The table is bounded; when it is full, the address that has been
//! quiet the longest is forgotten, so that many guessers cannot make it grow.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Counts failed tries by address.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<HashMap<IpAddr, Failures>>);

#[derive(Debug, Clone, Copy)]
struct Failures {
    /// When all are forgiven; each one adds [`FORGIVEN_AFTER`].
    forgiven: Instant,
}

impl Throttle {
    /// Whether an address may try now.
    ///
    /// # Errors
    /// How long it must wait.
    pub fn check(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        let failures = self.lock().get(&network(address)).copied();
        let owed = failures.map_or(Duration::ZERO, |failures| {
            failures.forgiven.saturating_duration_since(now)
        });
        match owed.checked_sub(FORGIVEN_AFTER * (TRIES - 1)) {
            Some(wait) if !wait.is_zero() => Err(wait),
            _ => Ok(()),
        }
    }

    /// Counts a failed try.
    pub fn failed(&self, address: IpAddr, now: Instant) {
        let mut table = self.lock();
        let network = network(address);
        if table.len() >= MAX_ADDRESSES && !table.contains_key(&network) {
            table.retain(|_, failures| failures.forgiven > now);
            if table.len() >= MAX_ADDRESSES {
                let quietest = table.iter().min_by_key(|(_, failures)| failures.forgiven);
                if let Some(address) = quietest.map(|(&address, _)| address) {
                    table.remove(&address);
                }
            }
        }
        let failures = table.entry(network).or_insert(Failures { forgiven: now });
        failures.forgiven = failures.forgiven.max(now) + FORGIVEN_AFTER;
    }

    /// Addresses that are remembered.
    pub fn len(&self) -> usize {
        self.lock().len()
    }

    /// Whether nobody has been wrong lately.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, Failures>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The address itself, or the /64 it lies in.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(Ipv4Addr::from(address.to_bits())),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from(address.to_bits() >> 64 << 64)),
    }
}

/// Failed tries that are answered one after the other: somebody who mistypes a key needs a few.
const TRIES: u32 = 10;
/// After this long one is forgiven, so a guesser has ten a minute.
const FORGIVEN_AFTER: Duration = Duration::from_secs(6);
/// Addresses that are remembered, about 60 bytes each.
const MAX_ADDRESSES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(n))
    }

    #[test]
    fn ten_at_once_then_ten_a_minute() {
        let (throttle, start) = (Throttle::default(), Instant::now());
        let mut tried = 0;
        // Ten thousand tries within a minute.
        for i in 0..10_000 {
            let now = start + Duration::from_millis(6 * i);
            if throttle.check(v4(1), now).is_ok() {
                throttle.failed(v4(1), now);
                tried += 1;
            }
        }
        assert_eq!(tried, 10 + 9);
        assert_eq!(throttle.len(), 1);
        // Another address is not concerned, and this one is forgiven in time.
        let now = start + Duration::from_millis(59_900);
        assert!(throttle.check(v4(2), now).is_ok());
        assert!(throttle.check(v4(1), now).is_err());
        assert!(throttle.check(v4(1), now + Duration::from_secs(60)).is_ok());
    }

    #[test]
    fn the_wait_is_told() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for _ in 0..TRIES {
            throttle.check(v4(1), now).unwrap();
            throttle.failed(v4(1), now);
        }
        assert_eq!(throttle.check(v4(1), now), Err(FORGIVEN_AFTER));
    }

    #[test]
    fn memory_is_bounded() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..3 * MAX_ADDRESSES as u32 {
            throttle.failed(v4(n), now);
        }
        assert_eq!(throttle.len(), MAX_ADDRESSES);
        // One that is not among those remembered, whichever they are.
        throttle.failed(v4(u32::MAX), now + Duration::from_secs(60));
        assert_eq!(throttle.len(), 1, "those forgiven go first");
    }

    #[test]
    fn an_ipv6_guesser_has_one_network() {
        let (throttle, now) = (Throttle::default(), Instant::now());
        for n in 0..100_u16 {
            let address = Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, n);
            throttle.failed(IpAddr::V6(address), now);
        }
        assert_eq!(throttle.len(), 1);
        let neighbour = Ipv6Addr::new(0x2001, 0xdb8, 0, 2, 0, 0, 0, 1);
        assert!(throttle.check(IpAddr::V6(neighbour), now).is_ok());
        // The same host by either notation.
        throttle.failed(v4(7), now);
        throttle.failed(IpAddr::V6(Ipv4Addr::from(7).to_ipv6_mapped()), now);
        assert_eq!(throttle.len(), 2);
    }
}
