use std::net::Ipv6Addr;

use proptest::prelude::*;

use super::addresses::is_public_v4;
use super::*;

fn refusal(policy: &EgressPolicy, url: &str) -> &'static str {
    policy
        .parse_url(url)
        .err()
        .map_or("allowed", |refusal| refusal.code())
}

#[test]
fn the_default_is_https_to_public_addresses() {
    let policy = EgressPolicy::default();
    for (url, code) in [
        ("https://example.com/hook", "allowed"),
        ("example.com/hook", "allowed"),
        ("https://93.184.216.34/", "allowed"),
        ("https://[2606:2800:220:1:248:1893:25c8:1946]/", "allowed"),
        ("http://example.com/", "plain_http"),
        ("ftp://example.com/", "unsupported_scheme"),
        ("https://user:pass@example.com/", "credentials_in_url"),
        ("https://localhost/", "blocked_host"),
        ("https://LOCALHOST./", "blocked_host"),
        ("https://metadata.google.internal/", "blocked_host"),
        ("https://169.254.169.254/", "private_address"),
        ("https://2130706433/", "private_address"),
        ("https://0x7f.1/", "private_address"),
        ("https://10.0.0.1/", "private_address"),
        ("https://100.64.0.1/", "private_address"),
        ("https://[::1]/", "private_address"),
        ("https://[::]/", "private_address"),
        ("https://[::ffff:127.0.0.1]/", "private_address"),
        ("https://[::127.0.0.1]/", "private_address"),
        ("https://[64:ff9b::10.0.0.1]/", "private_address"),
        ("https://[64:ff9b:2::8.8.8.8]/", "private_address"),
        ("https://[2002:7f00:1::]/", "private_address"),
        ("https://[fe80::1]/", "private_address"),
        ("https://[fd00::1]/", "private_address"),
        ("https://224.0.0.1/", "private_address"),
        ("https://", "invalid_url"),
    ] {
        assert_eq!(refusal(&policy, url), code, "{url}");
    }
}

#[test]
fn an_allow_list_opens_networks_hosts_and_suffixes() {
    let policy = EgressPolicy::new(
        "127.0.0.0/8, 10.1.0.0/16, hooks.internal, *.svc.local",
        true,
    )
    .unwrap();
    for (url, code) in [
        ("http://127.0.0.1:9000/", "allowed"),
        ("http://localhost:9000/", "allowed"),
        ("http://10.1.2.3/", "allowed"),
        ("http://10.2.0.1/", "private_address"),
        ("http://[::ffff:127.0.0.1]/", "private_address"),
    ] {
        assert_eq!(refusal(&policy, url), code, "{url}");
    }
    let private = "10.9.9.9".parse().unwrap();
    assert!(
        policy
            .check_address(Some("hooks.internal"), private)
            .is_ok()
    );
    assert!(
        policy
            .check_address(Some("Hooks.Internal."), private)
            .is_ok()
    );
    assert!(policy.check_address(Some("a.svc.local"), private).is_ok());
    assert!(policy.check_address(Some("svc.local"), private).is_err());
    assert!(
        policy
            .check_address(Some("evil-hooks.internal"), private)
            .is_err()
    );
    assert!(EgressPolicy::new("10.0.0.0/33", false).is_err());
}

/// An address of every row of IANA's registries of special-purpose addresses (as of 2025), with
/// what is reserved beside them.
#[test]
fn every_special_purpose_address_is_refused() {
    for address in [
        "0.0.0.0",
        "0.1.2.3",
        "10.255.255.255",
        "100.64.0.1",
        "100.100.100.200",
        "127.0.0.1",
        "169.254.169.254",
        "172.16.0.1",
        "172.31.255.255",
        "192.0.0.1",
        "192.0.0.8",
        "192.0.0.9",
        "192.0.0.10",
        "192.0.0.170",
        "192.0.0.171",
        "192.0.0.192",
        "192.0.2.1",
        "192.31.196.1",
        "192.52.193.1",
        "192.88.99.1",
        "192.168.1.1",
        "192.175.48.1",
        "198.18.0.1",
        "198.19.255.255",
        "198.51.100.1",
        "203.0.113.1",
        "224.0.0.1",
        "239.1.1.1",
        "240.0.0.1",
        "255.255.255.255",
        "168.63.129.16",
        "::",
        "::1",
        "::ffff:8.8.8.8",
        "::8.8.8.8",
        "::ffff:0:8.8.8.8",
        "64:ff9b::10.0.0.1",
        "64:ff9b:1::8.8.8.8",
        "100::1",
        "100:0:0:1::1",
        "2001::1",
        "2001:1::1",
        "2001:1::2",
        "2001:1::3",
        "2001:2::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:10::1",
        "2001:20::1",
        "2001:30::1",
        "2001:db8::1",
        "2002:808:808::1",
        "2620:4f:8000::1",
        "3fff::1",
        "3fff:fff::1",
        "5f00::1",
        "fc00::1",
        "fd00:ec2::254",
        "fd20:ce::254",
        "fe80::1",
        "fec0::1",
        "ff02::1",
        "4000::1",
        "8000::1",
    ] {
        let parsed: IpAddr = address.parse().unwrap();
        assert!(
            EgressPolicy::default().check_address(None, parsed).is_err(),
            "{address}"
        );
    }
    for address in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "100.63.255.255",
        "100.128.0.0",
        "126.255.255.255",
        "172.15.255.255",
        "172.32.0.0",
        "192.0.1.1",
        "198.17.255.255",
        "198.20.0.0",
        "223.255.255.255",
        "168.63.129.15",
        "2606:4700:4700::1111",
        "2a00:1450::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "64:ff9b::8.8.8.8",
    ] {
        let parsed: IpAddr = address.parse().unwrap();
        assert!(
            EgressPolicy::default().check_address(None, parsed).is_ok(),
            "{address}"
        );
    }
}

#[test]
fn none_and_nothing_allow_nothing() {
    for list in ["", " ", "none", " none "] {
        let policy = EgressPolicy::new(list, true).unwrap();
        assert_eq!(
            refusal(&policy, "http://127.0.0.1/"),
            "private_address",
            "{list:?}"
        );
        assert!(
            policy
                .check_address(Some("none"), IpAddr::V4(Ipv4Addr::LOCALHOST))
                .is_err(),
            "{list:?}"
        );
    }
    assert!(EgressPolicy::new("none,10.0.0.0/8", true).is_err());
}

proptest! {
    #[test]
    fn a_private_address_is_private_in_every_guise(
        a in 0_u8..=255, b in 0_u8..=255, c in 0_u8..=255, d in 0_u8..=255,
    ) {
        let v4 = Ipv4Addr::new(a, b, c, d);
        if is_public_v4(v4) {
            return Ok(());
        }
        let high = u16::from_be_bytes([a, b]);
        let low = u16::from_be_bytes([c, d]);
        for disguise in [
            v4.to_ipv6_mapped(),
            Ipv6Addr::new(0, 0, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, high, low),
            Ipv6Addr::new(0x2002, high, low, 0, 0, 0, 0, 1),
        ] {
            prop_assert!(!is_public(IpAddr::V6(disguise)), "{disguise}");
        }
    }
}
