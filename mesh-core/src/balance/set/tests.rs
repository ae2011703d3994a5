mod properties;

use super::*;
use crate::model::{
    ConsistentHash, EndpointAddress, HashKey, HashTable, LoadBalancer, Locality, Millis, Transport, WarmUp,
    Weight, Workload,
};

fn set(weights: &[u32]) -> EndpointSet {
    made(models(weights), LoadBalancer::LeastRequest, None)
}

fn made(models: Vec<model::Endpoint>, balancer: LoadBalancer, previous: Option<&EndpointSet>) -> EndpointSet {
    let cluster = Arc::new(cluster(balancer));
    let made = Made { endpoints: Some(resource(models)), cluster, own: Arc::default() };
    EndpointSet::new(made, previous)
}

fn cluster(load_balancer: LoadBalancer) -> model::Cluster {
    model::Cluster {
        name: "c".into(),
        service: model::Host::parse("c.example").unwrap(),
        service_name: "c".into(),
        service_namespace: "default".into(),
        port: 80,
        subset: None,
        protocol: model::Protocol::Http,
        external: false,
        load_balancer,
        locality: None,
        warm_up: None,
        pool: model::ConnectionPool::default(),
        outlier: None,
        tls: model::ClusterTls::default(),
        origin: None,
    }
}

fn resource(endpoints: Vec<model::Endpoint>) -> Arc<Resource> {
    Arc::new(Resource::Endpoints(model::Endpoints { cluster: "c".into(), endpoints }))
}

fn models(weights: &[u32]) -> Vec<model::Endpoint> {
    let endpoint = |(at, weight): (usize, &u32)| model::Endpoint {
        address: EndpointAddress::Socket(([10, 0, 0, u8::try_from(at).unwrap()], 80).into()),
        weight: Weight(*weight),
        transport: Transport::Plain,
        identity: None,
        workload: Workload { uid: format!("pod-{at}"), ..Workload::default() },
        locality: Locality::default(),
    };
    weights.iter().enumerate().map(endpoint).collect()
}

const CALM: Condition = Condition { ejections: false, min_health: PerMillion::NEVER };

fn picks(set: &EndpointSet, balancer: &LoadBalancer, count: usize, avoid: &[EndpointKey]) -> Vec<usize> {
    let (cursor, mut dice, cluster) = (Cursor::default(), Dice::seeded(1), cluster(balancer.clone()));
    let mut shares = vec![0; set.endpoints().len()];
    for _ in 0..count {
        let how = Pick { avoid, ..Pick::first(Instant::now(), &mut dice, None) };
        let picked = set.pick(&cluster, CALM, &cursor, how).unwrap();
        shares[set.endpoints().iter().position(|each| each.key() == picked.key()).unwrap()] += 1;
    }
    shares
}

#[test]
fn round_robin_gives_each_exactly_its_share() {
    assert_eq!(picks(&set(&[1, 1, 1]), &LoadBalancer::RoundRobin, 30, &[]), [10, 10, 10]);
    assert_eq!(picks(&set(&[7, 2, 1]), &LoadBalancer::RoundRobin, 100, &[]), [70, 20, 10]);
}

#[test]
fn random_and_idle_least_request_follow_the_weights() {
    for balancer in [LoadBalancer::Random, LoadBalancer::LeastRequest] {
        let shares = picks(&set(&[3, 1]), &balancer, 10_000, &[]);
        assert!((7_000..8_000).contains(&shares[0]), "{balancer:?} {shares:?}");
    }
}

#[test]
fn least_request_prefers_the_less_loaded_of_two() {
    let set = set(&[1, 1]);
    let _busy = set.endpoints()[0].begin();
    assert_eq!(picks(&set, &LoadBalancer::LeastRequest, 50, &[])[1], 50);
}

#[test]
fn endpoints_tried_before_are_avoided_while_there_is_another() {
    let set = set(&[1000, 1]);
    let tried = [set.endpoints()[0].key().clone()];
    for balancer in [LoadBalancer::LeastRequest, LoadBalancer::RoundRobin, LoadBalancer::Random] {
        assert_eq!(picks(&set, &balancer, 20, &tried), [0, 20], "{balancer:?}");
    }
    let both: Vec<_> = set.endpoints().iter().map(|each| each.key().clone()).collect();
    assert_eq!(picks(&set, &LoadBalancer::Random, 20, &both).iter().sum::<usize>(), 20);
}

#[test]
fn an_empty_set_has_nothing_to_pick() {
    let mut dice = Dice::seeded(1);
    let how = Pick::first(Instant::now(), &mut dice, None);
    assert!(set(&[]).pick(&cluster(LoadBalancer::Random), CALM, &Cursor::default(), how).is_none());
}

#[test]
fn state_survives_in_a_new_set_only_for_the_same_pod() {
    let old = set(&[1, 1]);
    let _request = old.endpoints()[0].begin();
    let mut models = models(&[1, 1]);
    assert_eq!(made(models.clone(), LoadBalancer::LeastRequest, Some(&old)).endpoints()[0].state.active(), 1);
    models[0].workload.uid = "another pod on the same address".into();
    assert_eq!(made(models.clone(), LoadBalancer::LeastRequest, Some(&old)).endpoints()[0].state.active(), 0);
}

/// Keys that moved although their endpoint stayed when the last of ten endpoints left, of 2,000.
fn moved(table: HashTable) -> usize {
    let balancer = LoadBalancer::ConsistentHash(ConsistentHash { key: HashKey::SourceAddress, table });
    let owner = |set: &EndpointSet, hash: u64| {
        let mut dice = Dice::seeded(hash);
        let how = Pick::first(Instant::now(), &mut dice, Some(hash));
        set.pick(&cluster(balancer.clone()), CALM, &Cursor::default(), how).unwrap().key().clone()
    };
    let [ten, nine] = [10, 9].map(|count| made(models(&vec![1; count]), balancer.clone(), None));
    let keys = (0..2_000).map(|key: u64| xxhash_rust::xxh64::xxh64(&key.to_le_bytes(), 0));
    let gone = ten.endpoints()[9].key().clone();
    keys.filter(|&key| {
        assert_eq!(owner(&ten, key), owner(&ten, key));
        owner(&ten, key) != gone && owner(&ten, key) != owner(&nine, key)
    })
    .count()
}

#[test]
fn a_hash_keeps_its_endpoint_and_few_keys_move() {
    for table in [HashTable::Ring { minimum_size: 1024 }, HashTable::Maglev { size: None }] {
        let moved = moved(table);
        assert!(moved < 200, "{table:?}: {moved} of 2000 keys moved though their endpoint stayed");
    }
}

#[test]
fn hash_tables_follow_the_weights() {
    for table in [HashTable::Ring { minimum_size: 8192 }, HashTable::Maglev { size: Some(65_537) }] {
        let balancer = LoadBalancer::ConsistentHash(ConsistentHash { key: HashKey::SourceAddress, table });
        let set = made(models(&[3, 1]), balancer.clone(), None);
        let (cluster, mut dice) = (cluster(balancer), Dice::seeded(7));
        let first = (0..10_000).filter(|_| {
            let hash = dice.wide();
            let how = Pick::first(Instant::now(), &mut dice, Some(hash));
            set.pick(&cluster, CALM, &Cursor::default(), how).unwrap().key() == set.endpoints()[0].key()
        });
        let share = first.count();
        assert!((7_000..8_000).contains(&share), "{table:?}: {share}");
    }
    assert!(HashTable::takes(65_537) && !HashTable::takes(65_536) && !HashTable::takes(0));
}

#[test]
fn a_new_endpoint_gets_a_share_that_grows() {
    let start = Instant::now();
    for balancer in [LoadBalancer::LeastRequest, LoadBalancer::RoundRobin] {
        let warm_up = Some(WarmUp { duration: Millis::seconds(100), minimum: 0.1, aggression: 1.0 });
        let cluster = model::Cluster { warm_up, ..cluster(balancer.clone()) };
        let made = |weights: &[u32], previous: Option<&EndpointSet>| {
            let (endpoints, cluster) = (Some(resource(models(weights))), Arc::new(cluster.clone()));
            EndpointSet::new(Made { endpoints, cluster, own: Arc::default() }, previous)
        };
        let (cursor, mut dice) = (Cursor::default(), Dice::seeded(3));
        let mut share = |set: &EndpointSet, age: u64| {
            let now = start + std::time::Duration::from_secs(age);
            let mut pick = || set.pick(&cluster, CALM, &cursor, Pick::first(now, &mut dice, None)).unwrap();
            let new = set.endpoints().last().unwrap().key().clone();
            (0..4_000).filter(|_| *pick().key() == new).count()
        };
        let old = made(&[1], None);
        share(&old, 0);
        let both = made(&[1, 1], Some(&old));
        // Weights 1 and f: idle least request draws two different ones and keeps the first.
        for (age, factor) in [(200, 0.1), (250, 0.5), (320, 1.0)] {
            let (seen, wanted) = (share(&both, age) as f64 / 4_000.0, factor / (1.0 + factor));
            assert!((seen - wanted).abs() < 0.04, "{balancer:?} after {age} s: {seen} instead of {wanted}");
        }
    }
}

mod localities {
    use super::*;
    use crate::guard::{Ejector, Outcome};
    use crate::model::{Distribute, LocalityPolicy, OutlierDetection, PriorityLabel, RegionFailover};

    fn place(text: &str) -> Locality {
        let mut parts = text.split('/').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        Locality { region: next(), zone: next(), subzone: next(), ..Locality::default() }
    }

    fn set(policy: LocalityPolicy, own: Locality, places: &[&str]) -> EndpointSet {
        let mut endpoints = models(&vec![1; places.len()]);
        endpoints.iter_mut().zip(places).for_each(|(endpoint, text)| endpoint.locality = place(text));
        let cluster =
            Arc::new(model::Cluster { locality: Some(policy), ..cluster(LoadBalancer::LeastRequest) });
        EndpointSet::new(Made { endpoints: Some(resource(endpoints)), cluster, own: Arc::new(own) }, None)
    }

    fn failover() -> LocalityPolicy {
        LocalityPolicy { failover: true, ..LocalityPolicy::default() }
    }

    fn shares(set: &EndpointSet, now: Instant, leave: &[EndpointKey]) -> Vec<usize> {
        let (cluster, cursor, mut dice) =
            (cluster(LoadBalancer::LeastRequest), Cursor::default(), Dice::seeded(5));
        let condition = Condition { ejections: true, ..CALM };
        let mut shares = vec![0; set.endpoints().len()];
        for _ in 0..1_000 {
            let how = Pick { leave, ..Pick::first(now, &mut dice, None) };
            let picked = set.pick(&cluster, condition, &cursor, how).unwrap();
            shares[set.endpoints().iter().position(|each| each.key() == picked.key()).unwrap()] += 1;
        }
        shares
    }

    fn eject(set: &EndpointSet, at: usize, now: Instant) {
        let policy = OutlierDetection {
            consecutive_5xx: 1,
            consecutive_gateway_errors: 0,
            interval: Millis::seconds(10),
            base_ejection_time: Millis::seconds(30),
            max_ejection: PerMillion::ALWAYS,
            min_health: PerMillion::NEVER,
            local_origin_failures: None,
        };
        let all = set.endpoints().iter().map(|endpoint| endpoint.state.health());
        let health = set.endpoints()[at].state.health();
        assert!(Ejector::default().report(&policy, health, Outcome::Reset, moment::millis(now), all));
    }

    #[test]
    fn s27_the_nearest_take_all_until_they_cannot() {
        let now = Instant::now();
        let places = ["r1/z1", "r1/z1", "r1/z2", "r2/z1"];
        let set = set(failover(), place("r1/z1"), &places);
        assert_eq!(shares(&set, now, &[])[2..], [0, 0]);
        eject(&set, 0, now);
        // Half of the zone is left, which takes 1.4 × 50 % = 70 %.
        let seen = shares(&set, now, &[]);
        assert!(seen[0] == 0 && seen[1].abs_diff(700) < 60 && seen[2].abs_diff(300) < 60, "{seen:?}");
        eject(&set, 1, now);
        assert_eq!(shares(&set, now, &[]), [0, 0, 1_000, 0]);
        eject(&set, 2, now);
        assert_eq!(shares(&set, now, &[]), [0, 0, 0, 1_000]);
    }

    /// Neither who comes to an address after it, nor itself when it comes back, is judged by what it did before.
    #[test]
    fn an_ejection_ends_with_the_instance() {
        let now = Instant::now();
        let first = made(models(&[1, 1]), LoadBalancer::LeastRequest, None);
        eject(&first, 1, now);
        let ejected = |set: &EndpointSet| {
            set.endpoints().last().unwrap().state.health().is_ejected(moment::millis(now))
        };
        let then = |change: &dyn Fn(&mut model::Endpoint), previous: &EndpointSet| {
            let mut endpoints = models(&[1, 1]);
            change(&mut endpoints[1]);
            made(endpoints, LoadBalancer::LeastRequest, Some(previous))
        };
        assert!(ejected(&then(&|_| {}, &first)), "the same is still ejected");
        let moved = EndpointAddress::Socket(([10, 0, 0, 9], 80).into());
        assert!(!ejected(&then(&|endpoint| endpoint.address = moved.clone(), &first)));
        assert!(!ejected(&then(&|endpoint| endpoint.workload.uid = "another".into(), &first)));
        let without = made(models(&[1]), LoadBalancer::LeastRequest, Some(&first));
        assert!(!ejected(&then(&|_| {}, &without)), "it has left meanwhile");
    }

    #[test]
    fn a_named_region_comes_before_other_regions() {
        let regions = vec![RegionFailover { from: "r1".into(), to: "r3".into() }];
        let set = set(LocalityPolicy { regions, ..failover() }, place("r1"), &["r2", "r3"]);
        assert_eq!(shares(&set, Instant::now(), &[]), [0, 1_000]);
    }

    #[test]
    fn labels_count_from_the_first_on() {
        let label = |name: &str| PriorityLabel { name: name.into(), value: None };
        let labels = vec![label("topology.kubernetes.io/region"), label("topology.kubernetes.io/zone")];
        let policy = LocalityPolicy { labels, ..failover() };
        let set = set(policy, place("r1/z1"), &["r2/z1", "r1/z2", "r1/z2"]);
        let seen = shares(&set, Instant::now(), &[]);
        assert_eq!(seen[0], 0, "a zone of the same name in another region is not near");
    }

    #[test]
    fn a_proxy_that_knows_no_place_prefers_nobody() {
        let set = set(failover(), Locality::default(), &["r1", "r2"]);
        let seen = shares(&set, Instant::now(), &[]);
        assert!(seen[0].abs_diff(500) < 80, "{seen:?}");
    }

    #[test]
    fn distribution_follows_the_shares_and_drops_what_is_not_named() {
        let to = [("r1/*".to_owned(), 80), ("r2/z1".to_owned(), 20)].into();
        let distribute = vec![Distribute { from: "r1/*".into(), to }];
        let policy = LocalityPolicy { distribute, ..LocalityPolicy::default() };
        let set = set(policy, place("r1/z1"), &["r1/z1", "r2/z1", "r2/z2"]);
        let seen = shares(&set, Instant::now(), &[]);
        assert!(seen[0].abs_diff(800) < 60 && seen[2] == 0, "{seen:?}");
    }

    #[test]
    fn retries_may_leave_a_locality() {
        let set = set(failover(), place("r1"), &["r1", "r1", "r2"]);
        let tried = [set.endpoints()[0].key().clone()];
        assert_eq!(shares(&set, Instant::now(), &tried), [0, 0, 1_000]);
    }
}
