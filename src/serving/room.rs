//! Who is connected, and who gives way when all connections are taken.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Limits;
use super::activity::Activity;

/// Connections beyond the limit that are good for health and metrics alone.
const RESERVED: usize = 16;

/// All connections of a listener.
pub(super) struct Room {
    limits: Limits,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    next: u64,
    seats: HashMap<u64, Entry>,
}

struct Entry {
    client: IpAddr,
    activity: Arc<Activity>,
    leave: CancellationToken,
    purpose: Purpose,
}

/// What a connection may be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Every request is answered.
    Everything,
    /// Health and metrics: all other connections are taken.
    Operations,
}

/// A connection's place; leaving it makes room for another.
pub(super) struct Seat {
    number: u64,
    room: Arc<Room>,
    /// What it may be used for.
    pub(super) purpose: Purpose,
    /// What it is doing.
    pub(super) activity: Arc<Activity>,
    /// Cancelled when it is to give way to another.
    pub(super) leave: CancellationToken,
}

impl Room {
    /// A listener without connections.
    pub(super) fn new(limits: Limits) -> Self {
        Self {
            limits,
            taken: Mutex::default(),
        }
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a new connection. When all are taken, or all that one client may have, a
    /// connection without a request gives way: of the client with the most, the one that has been
    /// idle for longest. When each of them has a request, what is left is a place for health and
    /// metrics. `None`: there is none of these either.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr) -> Option<Seat> {
        let client = client(address);
        let mut taken = self.taken();
        let everything = taken
            .seats
            .values()
            .filter(|entry| entry.purpose == Purpose::Everything);
        let mut total = 0;
        let mut own = 0;
        for entry in everything {
            total += 1;
            own += usize::from(entry.client == client);
        }
        // A client at its own limit displaces one of its own connections, never that of somebody
        // else.
        let room = if own >= self.limits.max_connections_per_client {
            taken.make_room(Purpose::Everything, Some(client))
        } else {
            total < self.limits.max_connections || taken.make_room(Purpose::Everything, None)
        };
        let purpose = if room {
            Purpose::Everything
        } else {
            Purpose::Operations
        };
        if purpose == Purpose::Operations {
            let reserved = taken
                .seats
                .values()
                .filter(|entry| entry.purpose == purpose)
                .count();
            // Among the reserved places, too, an idle connection gives way: probes that keep theirs
            // open must not lock each other out.
            if reserved >= RESERVED && !taken.make_room(purpose, None) {
                return None;
            }
        }
        let activity = Arc::new(Activity::new());
        let leave = CancellationToken::new();
        let number = taken.next;
        taken.next += 1;
        taken.seats.insert(
            number,
            Entry {
                client,
                activity: Arc::clone(&activity),
                leave: leave.clone(),
                purpose,
            },
        );
        Some(Seat {
            number,
            room: Arc::clone(self),
            purpose,
            activity,
            leave,
        })
    }

    /// Closes a connection that has no request, if there is one.
    pub(super) fn close_an_idle_one(&self) {
        self.taken().make_room(Purpose::Everything, None);
    }
}

impl Taken {
    /// Sends away an idle connection, of one client or of the one that has the most. Whether there
    /// was one.
    fn make_room(&mut self, purpose: Purpose, of: Option<IpAddr>) -> bool {
        // Whoever has the most connections gives way first, whoever asks: a flood from one address
        // displaces itself.
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for entry in self.seats.values() {
            *counts.entry(entry.client).or_default() += 1;
        }
        let candidates = self.seats.iter().filter(|(_, entry)| {
            entry.purpose == purpose && of.is_none_or(|client| entry.client == client)
        });
        let idle = candidates.filter_map(|(number, entry)| {
            let since: Instant = entry.activity.idle_since()?;
            Some((
                counts.get(&entry.client).copied(),
                // Reversed, since `max` is to find the longest idle one. The number settles ties.
                std::cmp::Reverse((since, *number)),
            ))
        });
        let Some((_, std::cmp::Reverse((_, number)))) = idle.max() else {
            return false;
        };
        // Its task ends in a moment; the place is free for the new one at once.
        if let Some(entry) = self.seats.remove(&number) {
            entry.leave.cancel();
        }
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        // Does nothing for a seat that was displaced: numbers are never given out again.
        self.room.taken().seats.remove(&self.number);
    }
}

/// Whom an address belongs to. A network of IPv6 is one client: it has 2^64 addresses to come from.
fn client(address: IpAddr) -> IpAddr {
    // A listener for both families sees IPv4 clients as ::ffff:…; they count as what they are.
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(max_connections: usize, max_connections_per_client: usize) -> Arc<Room> {
        Arc::new(Room::new(Limits {
            max_connections,
            max_connections_per_client,
            ..Limits::OPERATIONS
        }))
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn the_longest_idle_connection_of_the_greediest_client_gives_way() {
        let room = room(3, 3);
        let quiet = room.enter(address("10.0.0.9")).unwrap();
        let mut greedy = Vec::new();
        for _ in 0..2 {
            tokio::time::advance(std::time::Duration::from_secs(1)).await;
            greedy.push(room.enter(address("10.0.0.1")).unwrap());
        }
        let new = room.enter(address("10.0.0.2")).unwrap();
        assert_eq!(new.purpose, Purpose::Everything);
        assert!(
            greedy[0].leave.is_cancelled()
                && !greedy[1].leave.is_cancelled()
                && !quiet.leave.is_cancelled()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn when_all_are_busy_some_are_left_for_health_and_metrics() {
        let room = room(2, 2);
        let busy: Vec<Seat> = (0..2)
            .map(|_| room.enter(address("10.0.0.1")).unwrap())
            .collect();
        busy.iter().for_each(|seat| seat.activity.begin());
        let reserved: Vec<Seat> = (0..RESERVED)
            .map(|_| room.enter(address("10.0.0.2")).unwrap())
            .collect();
        assert!(
            reserved
                .iter()
                .all(|seat| seat.purpose == Purpose::Operations)
        );
        let last = room.enter(address("10.0.0.3")).unwrap();
        assert!(last.purpose == Purpose::Operations && reserved[0].leave.is_cancelled());
        busy[0].activity.end();
        assert_eq!(
            room.enter(address("10.0.0.3")).unwrap().purpose,
            Purpose::Everything
        );
        assert!(busy[0].leave.is_cancelled() && !busy[1].leave.is_cancelled());
    }

    #[tokio::test]
    async fn a_client_has_its_share_and_a_network_is_one_client() {
        let room = room(10, 2);
        let first = room.enter(address("2001:db8::1")).unwrap();
        let second = room.enter(address("2001:db8::2")).unwrap();
        let _third = room.enter(address("2001:db8::3")).unwrap();
        assert!(first.leave.is_cancelled() ^ second.leave.is_cancelled());
        assert_eq!(room.taken().seats.len(), 2);
        drop(second);
    }
}
