use std::net::IpAddr;

use proptest::prelude::*;

use super::*;

/// `allow|deny operation type:pattern:name user@host`.
fn binding(text: &str) -> Binding {
    let mut words = text.split(' ');
    let mut word = || words.next().expect("four words");
    let permission = if word() == "deny" { Permission::Deny } else { Permission::Allow };
    let operation = one_of(Operation::ALL, word());
    let resource: Vec<&str> = word().split(':').collect();
    let (user, host) = word().split_once('@').expect("user@host");
    Binding::new(&Draft {
        resource: one_of(ResourceType::ALL, resource[0]),
        pattern: one_of(PatternType::ALL, resource[1]),
        name: resource[2],
        principal: &format!("User:{user}"),
        host,
        operation,
        permission,
    })
    .expect("a rule")
}

fn one_of<T: Copy + fmt::Display>(all: &[T], name: &str) -> T {
    *all.iter().find(|one| one.to_string() == name).unwrap_or_else(|| panic!("no {name}"))
}

fn acls(all: &[&str]) -> Acls {
    let mut acls = Acls::default();
    all.iter().for_each(|text| acls.add(binding(text)));
    acls
}

fn who<'a>(user: &'a str, address: Option<&str>) -> Who<'a> {
    Who { user, address: address.map(|address| address.parse().expect("an address")) }
}

const NEAR: Option<&str> = Some("10.1.2.3");
const FAR: Option<&str> = Some("2001:db8::7");

#[test]
fn what_the_rules_say() {
    use Operation::{Alter, AlterConfigs, Create, Delete, Describe, DescribeConfigs, Read, Write};
    use Verdict::{Allowed, Denied, NoRule};
    #[track_caller]
    fn check(rules: &[&str], user: &str, operation: Operation, name: &str, expected: Verdict) {
        let got = acls(rules).verdict(who(user, NEAR), operation, ResourceType::Topic, name);
        assert_eq!(got, expected, "{rules:?}: {user} {operation} {name}");
    }
    let read = "allow Read Topic:Literal:t ann@*";
    check(&[], "ann", Read, "t", NoRule);
    check(&[read], "ann", Read, "t", Allowed);
    check(&[read], "bob", Read, "t", Denied);
    check(&[read], "ann", Write, "t", Denied);
    check(&[read], "ann", Read, "u", NoRule);
    check(&["allow Read Group:Literal:t ann@*"], "ann", Read, "t", NoRule);
    // What allows something allows to know of it.
    for (operation, allowed) in [("Read", true), ("Write", true), ("Delete", true), ("Alter", true)]
        .into_iter()
        .chain([("Create", false), ("AlterConfigs", false), ("DescribeConfigs", false)])
    {
        let rule = format!("allow {operation} Topic:Literal:t ann@*");
        check(&[&rule], "ann", Describe, "t", if allowed { Allowed } else { Denied });
    }
    check(&["allow AlterConfigs Topic:Literal:t ann@*"], "ann", DescribeConfigs, "t", Allowed);
    check(&["allow Describe Topic:Literal:t ann@*"], "ann", Read, "t", Denied);
    for operation in [Read, Write, Create, Delete, Alter, Describe, DescribeConfigs, AlterConfigs] {
        check(&["allow All Topic:Literal:t ann@*"], "ann", operation, "t", Allowed);
        check(&["deny All Topic:Literal:t ann@*"], "ann", operation, "t", Denied);
    }
    // What denies something does not hide it.
    let all = "allow All Topic:Literal:* *@*";
    check(&[all, "deny Read Topic:Literal:t ann@*"], "ann", Describe, "t", Allowed);
    check(&[all, "deny Read Topic:Literal:t ann@*"], "ann", Read, "t", Denied);
    check(&[all, "deny Read Topic:Literal:t ann@*"], "bob", Read, "t", Allowed);
    check(&[all, "deny Read Topic:Prefixed:t ann@*"], "ann", Read, "tx", Denied);
    check(&[read, "deny Read Topic:Literal:* *@*"], "ann", Read, "t", Denied);
    // Prefixes, also of names that are not ASCII.
    let prefix = "allow Read Topic:Prefixed:or ann@*";
    for (name, expected) in
        [("or", Allowed), ("orders", Allowed), ("o", NoRule), ("xor", NoRule), ("öö", NoRule)]
    {
        check(&[prefix], "ann", Read, name, expected);
    }
    check(&["allow Read Topic:Prefixed:ö ann@*"], "ann", Read, "ö1", Allowed);
    check(&["allow Read Topic:Prefixed:* ann@*"], "ann", Read, "t", NoRule);
    check(&["allow Read Topic:Literal:* ann@*"], "ann", Read, "*", Allowed);
}

#[test]
fn from_where() {
    #[track_caller]
    fn check(host: &str, address: Option<&str>, holds: bool) {
        let rule = format!("allow Read Topic:Literal:t ann@{host}");
        let got =
            acls(&[&rule]).verdict(who("ann", address), Operation::Read, ResourceType::Topic, "t");
        let expected = if holds { Verdict::Allowed } else { Verdict::Denied };
        assert_eq!(got, expected, "{host} {address:?}");
    }
    for (host, holds) in [
        ("*", true),
        ("10.1.2.3", true),
        ("10.1.2.4", false),
        ("10.0.0.0/8", true),
        ("10.9.9.9/8", true),
        ("11.0.0.0/8", false),
        ("10.1.2.2/31", true),
        ("10.1.2.4/31", false),
        ("10.1.2.3/32", true),
        ("0.0.0.0/0", true),
        ("::/0", false),
        ("::ffff:10.0.0.0/104", true),
        ("::ffff:10.1.2.3", true),
    ] {
        check(host, NEAR, holds);
        check(host, Some("::ffff:10.1.2.3"), holds);
        check(host, None, host == "*");
    }
    for (host, holds) in
        [("2001:db8::/32", true), ("2001:db9::/32", false), ("::/0", true), ("0.0.0.0/0", false)]
    {
        check(host, FAR, holds);
    }
    for wrong in ["", "host", "10.0.0.0/33", "10.0.0.0/", "10.0.0.0/+8", "::/129", "10.0.0.0/-1"] {
        assert_eq!(Host::new(wrong), None, "{wrong:?}");
    }
    assert_eq!(Host::new("::ffff:10.0.0.0/90"), None, "half of both worlds");
}

#[test]
fn rules_that_mean_nothing_are_refused() {
    #[track_caller]
    fn check(change: impl FnOnce(&mut Draft<'_>), expected: Option<AclError>) {
        let mut draft = Draft {
            resource: ResourceType::Topic,
            pattern: PatternType::Literal,
            name: "t",
            principal: "User:ann",
            host: "*",
            operation: Operation::Read,
            permission: Permission::Allow,
        };
        change(&mut draft);
        assert_eq!(Binding::new(&draft).err(), expected, "{draft:?}");
    }
    check(|_| {}, None);
    check(|draft| draft.name = "", Some(AclError::NoName));
    check(|draft| draft.host = "localhost", Some(AclError::Host("localhost".into())));
    for wrong in ["", "ann", "User:", "Group:ann", "user:ann"] {
        check(|draft| draft.principal = wrong, Some(AclError::Principal(wrong.into())));
    }
    let cluster = |name, pattern| {
        move |draft: &mut Draft<'_>| {
            (draft.resource, draft.name, draft.pattern) = (ResourceType::Cluster, name, pattern);
        }
    };
    check(cluster(CLUSTER_NAME, PatternType::Literal), None);
    check(cluster("*", PatternType::Literal), None);
    check(cluster("mine", PatternType::Literal), Some(AclError::NotTheCluster));
    check(cluster("kafka", PatternType::Prefixed), Some(AclError::NotTheCluster));
}

#[test]
fn filters_find_rules() {
    let all = [
        "allow Read Topic:Literal:ab ann@*",
        "allow Read Topic:Literal:* bob@10.0.0.0/8",
        "deny Write Topic:Prefixed:a ann@*",
        "allow All Group:Literal:ab *@*",
    ];
    let filter = Filter::default;
    let name = |name: &str| Some(Arc::from(name));
    let topic = Some(ResourceType::Topic);
    let cases = [
        (filter(), "0123"),
        (Filter { resource: topic, ..filter() }, "012"),
        (Filter { name: name("ab"), ..filter() }, "03"),
        (Filter { name: name("a"), ..filter() }, "2"),
        (Filter { name: name("ab"), pattern: PatternFilter::Match, ..filter() }, "0123"),
        (Filter { name: name("b"), pattern: PatternFilter::Match, ..filter() }, "1"),
        (Filter { name: name("*"), pattern: PatternFilter::Match, ..filter() }, "1"),
        (Filter { pattern: PatternFilter::Is(PatternType::Prefixed), ..filter() }, "2"),
        (
            Filter {
                name: name("ab"),
                pattern: PatternFilter::Is(PatternType::Prefixed),
                ..filter()
            },
            "",
        ),
        (Filter { principal: name("User:ann"), ..filter() }, "02"),
        (Filter { principal: name("User:*"), ..filter() }, "3"),
        (Filter { principal: name("ann"), ..filter() }, ""),
        (Filter { host: name("10.0.0.0/8"), ..filter() }, "1"),
        (Filter { host: name("*"), ..filter() }, "023"),
        (Filter { operation: Some(Operation::Read), ..filter() }, "01"),
        (Filter { operation: Some(Operation::All), ..filter() }, "3"),
        (Filter { permission: Some(Permission::Deny), ..filter() }, "2"),
    ];
    let acls = acls(&all);
    for (filter, expected) in cases {
        let is_found = |text: &&str| acls.matching(&filter).any(|found| *found == binding(text));
        let found: String = (0..all.len())
            .filter(|at| is_found(&all[*at]))
            .map(|at| char::from_digit(at as u32, 10).expect("a digit"))
            .collect();
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[test]
fn no_more_rules_than_there_may_be() {
    let mut acls = Acls::default();
    let rule = |number: usize| binding(&format!("allow Read Topic:Literal:t{number} ann@*"));
    (0..RULES_MAX - 1).for_each(|number| acls.add(rule(number)));
    assert_eq!(acls.missing([rule(0), rule(0), rule(1)]), Ok(vec![]), "they are there");
    assert_eq!(acls.missing([rule(RULES_MAX), rule(RULES_MAX)]), Ok(vec![rule(RULES_MAX)]));
    let two = [rule(RULES_MAX), rule(RULES_MAX + 1)];
    assert_eq!(acls.missing(two), Err(AclError::TooMany));
}

/// A decision as a reader would make it: by looking at every rule.
fn model(all: &BTreeSet<Binding>, who: Who<'_>, operation: Operation, name: &str) -> Verdict {
    let speaks = |rule: &&Binding| match rule.pattern {
        PatternType::Literal => &*rule.name == "*" || &*rule.name == name,
        PatternType::Prefixed => name.starts_with(&*rule.name),
    };
    let of_name: Vec<_> = all.iter().filter(speaks).collect();
    let says = |permission| {
        of_name.iter().any(|rule| {
            rule.permission == permission
                && (&*rule.user == "*" || &*rule.user == who.user)
                && rule.host.net().holds(who.address)
                && rule.covers(operation)
        })
    };
    match () {
        () if of_name.is_empty() => Verdict::NoRule,
        () if says(Permission::Deny) || !says(Permission::Allow) => Verdict::Denied,
        () => Verdict::Allowed,
    }
}

fn any_binding() -> impl Strategy<Value = Binding> {
    let name = prop::sample::select(vec!["*", "a", "b", "aa", "ab", "aab", "ä", "ba"]);
    let host =
        prop::sample::select(vec!["*", "10.1.2.3", "10.1.2.3/32", "10.0.0.0/8", "2001:db8::/32"]);
    let user = prop::sample::select(vec!["User:*", "User:u", "User:v"]);
    let operation = prop::sample::select(vec![
        Operation::All,
        Operation::Read,
        Operation::Write,
        Operation::Describe,
    ]);
    let pattern = prop::sample::select(PatternType::ALL);
    let permission = prop::sample::select(Permission::ALL);
    (name, host, user, operation, pattern, permission).prop_map(
        |(name, host, principal, operation, pattern, permission)| {
            let resource = ResourceType::Topic;
            // No name below begins with a star.
            let pattern = if name == "*" { PatternType::Literal } else { pattern };
            let draft = Draft { resource, pattern, name, principal, host, operation, permission };
            Binding::new(&draft).expect("a rule")
        },
    )
}

/// Names over what the rules know, and a letter that they do not.
fn names() -> Vec<String> {
    let mut all = vec![String::new()];
    for length in 0..4 {
        let longer = all.iter().filter(|name| name.chars().count() == length);
        let longer = longer.flat_map(|name| ['a', 'b', 'ä', 'z'].map(|c| format!("{name}{c}")));
        let longer: Vec<_> = longer.collect();
        all.extend(longer);
    }
    all.split_off(1)
}

proptest! {
    #[test]
    fn the_index_says_what_the_rules_say(
        changes in prop::collection::vec((any_binding(), any::<bool>()), 0..12),
        operation in prop::sample::select(vec![
            Operation::Read, Operation::Write, Operation::Describe, Operation::Delete,
        ]),
    ) {
        let (mut acls, mut all) = (Acls::default(), BTreeSet::new());
        for (binding, removes) in changes {
            acls.add(binding.clone());
            all.insert(binding.clone());
            if removes {
                acls.remove(&binding);
                all.remove(&binding);
            }
        }
        let mut anew = Acls::default();
        all.iter().cloned().for_each(|binding| anew.add(binding));
        prop_assert_eq!(&acls, &anew, "what was removed leaves nothing behind");
        let names = names();
        for user in ["u", "w"] {
            for address in [NEAR, FAR, None] {
                let who = Who { user, address: address.map(|it| it.parse::<IpAddr>().expect("one")) };
                let verdict = |name: &str| model(&all, who, operation, name);
                for name in names.iter().map(String::as_str).chain(["*"]) {
                    let got = acls.verdict(who, operation, ResourceType::Topic, name);
                    prop_assert_eq!(got, verdict(name), "{}", name);
                }
                let said: Vec<_> = names.iter().map(|name| verdict(name)).collect();
                let of_any = acls.verdict_on_any(who, operation, ResourceType::Topic);
                let expected = [Verdict::Allowed, Verdict::NoRule];
                let expected = expected.into_iter().find(|one| said.contains(one));
                prop_assert_eq!(of_any, expected.unwrap_or(Verdict::Denied));
            }
        }
        let other = acls.verdict(who("u", NEAR), operation, ResourceType::Group, "a");
        prop_assert_eq!(other, Verdict::NoRule);
    }
}
