use super::*;
use crate::model::{ConsistentHash, EndpointAddress, HashKey, Locality, Transport, Weight, Workload};

fn set(weights: &[u32]) -> EndpointSet {
    EndpointSet::new(Some(resource(models(weights))), None)
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
    let (cursor, mut dice) = (Cursor::default(), Dice::seeded(1));
    let mut shares = vec![0; set.endpoints().len()];
    for _ in 0..count {
        let how = Pick { now: Instant::now(), dice: &mut dice, hash: None, avoid };
        let picked = set.pick(balancer, CALM, &cursor, how).unwrap();
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
    let how = Pick { now: Instant::now(), dice: &mut Dice::seeded(1), hash: None, avoid: &[] };
    assert!(set(&[]).pick(&LoadBalancer::Random, CALM, &Cursor::default(), how).is_none());
}

#[test]
fn state_survives_in_a_new_set_only_for_the_same_pod() {
    let old = set(&[1, 1]);
    let _request = old.endpoints()[0].begin();
    let mut models = models(&[1, 1]);
    assert_eq!(EndpointSet::new(Some(resource(models.clone())), Some(&old)).endpoints()[0].state.active(), 1);
    models[0].workload.uid = "another pod on the same address".into();
    assert_eq!(EndpointSet::new(Some(resource(models.clone())), Some(&old)).endpoints()[0].state.active(), 0);
}

#[test]
fn a_hash_keeps_its_endpoint_and_few_keys_move() {
    let balancer =
        LoadBalancer::ConsistentHash(ConsistentHash { key: HashKey::SourceAddress, minimum_ring_size: None });
    let owner = |set: &EndpointSet, hash: u64| {
        let how = Pick { now: Instant::now(), dice: &mut Dice::seeded(hash), hash: Some(hash), avoid: &[] };
        set.pick(&balancer, CALM, &Cursor::default(), how).unwrap().key().clone()
    };
    let (ten, nine) = (set(&[1; 10]), set(&[1; 9]));
    let keys: Vec<u64> = (0..1000).map(|key: u64| xxhash_rust::xxh64::xxh64(&key.to_le_bytes(), 0)).collect();
    assert!(keys.iter().all(|&key| owner(&ten, key) == owner(&ten, key)));
    let gone = ten.endpoints()[9].key().clone();
    let moved =
        keys.iter().filter(|&&key| owner(&ten, key) != gone && owner(&ten, key) != owner(&nine, key)).count();
    assert!(moved < 150, "{moved} of 1000 keys moved though their endpoint stayed");
}
