//! The index of the rules: a decision looks up what it needs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use super::host::Net;
use super::{Binding, EVERY, Operation, PatternType, Permission, ResourceType, covers};

/// Who asks.
#[derive(Clone, Copy, Debug)]
pub struct Who<'a> {
    /// The name of the user.
    pub user: &'a str,
    /// Where he connects from; `None` inside the process.
    pub address: Option<IpAddr>,
}

/// What the rules say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// One allows it and none denies it.
    Allowed,
    /// One denies it, or some speak of the resource and none allows it.
    Denied,
    /// None speaks of the resource.
    NoRule,
}

/// All rules, by type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Index(BTreeMap<ResourceType, Patterns>);

/// The rules of one type, by what they match.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Patterns {
    literal: HashMap<Arc<str>, Rules>,
    prefixed: HashMap<Arc<str>, Rules>,
    /// How many patterns of `prefixed` are of which length, in bytes.
    lengths: BTreeMap<usize, usize>,
    /// Of every name.
    every: Option<Rules>,
}

/// The rules of one pattern, by user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Rules(HashMap<Arc<str>, Counts>);

/// What is allowed and denied to one user, and how many rules say so: an address can be written in
/// several ways.
type Counts = BTreeMap<Rule, usize>;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Rule {
    permission: Permission,
    operation: Operation,
    net: Net,
}

impl Index {
    pub(super) fn add(&mut self, binding: &Binding) {
        self.0.entry(binding.resource).or_default().add(binding);
    }

    pub(super) fn remove(&mut self, binding: &Binding) {
        let Some(patterns) = self.0.get_mut(&binding.resource) else { return };
        patterns.remove(binding);
        if *patterns == Patterns::default() {
            self.0.remove(&binding.resource);
        }
    }

    pub(super) fn verdict(
        &self,
        who: Who<'_>,
        operation: Operation,
        resource: ResourceType,
        name: &str,
    ) -> Verdict {
        let Some(patterns) = self.0.get(&resource) else { return Verdict::NoRule };
        let mut verdict = Verdict::NoRule;
        for rules in patterns.matching(name) {
            match rules.says(who, operation) {
                Some(Permission::Deny) => return Verdict::Denied,
                Some(Permission::Allow) => verdict = Verdict::Allowed,
                None if verdict == Verdict::NoRule => verdict = Verdict::Denied,
                None => {}
            }
        }
        verdict
    }

    pub(super) fn verdict_on_any(
        &self,
        who: Who<'_>,
        operation: Operation,
        resource: ResourceType,
    ) -> Verdict {
        let Some(patterns) = self.0.get(&resource) else { return Verdict::NoRule };
        let every = patterns.every.as_ref().map(|rules| rules.says(who, operation));
        match every {
            Some(Some(Permission::Deny)) => return Verdict::Denied,
            // There are always names that no other rule speaks of.
            Some(Some(Permission::Allow)) => return Verdict::Allowed,
            Some(None) | None => {}
        }
        let allows = |rules: &Rules| rules.says(who, operation) == Some(Permission::Allow);
        let denies = |rules: &Rules| rules.says(who, operation) == Some(Permission::Deny);
        let below_denied = |name: &str| patterns.prefixes(name).any(denies);
        // What a prefix allows is more than what names and longer prefixes can deny of it.
        let mut all = patterns.literal.iter().chain(&patterns.prefixed);
        if all.any(|(name, rules)| allows(rules) && !below_denied(name)) {
            return Verdict::Allowed;
        }
        if every.is_none() { Verdict::NoRule } else { Verdict::Denied }
    }
}

impl Patterns {
    /// The rules that speak of `name`.
    fn matching<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rules> {
        let exact = self.literal.get(name).into_iter();
        exact.chain(&self.every).chain(self.prefixes(name))
    }

    /// The rules of all prefixes of `name`, itself included.
    fn prefixes<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a Rules> {
        let lengths = self.lengths.keys().take_while(|length| **length <= name.len());
        // A length may lie within a character: then no prefix ends there.
        let prefixes = lengths.filter_map(|length| name.get(..*length));
        prefixes.filter_map(|prefix| self.prefixed.get(prefix))
    }

    fn add(&mut self, binding: &Binding) {
        let rules = match binding.pattern {
            PatternType::Literal if &*binding.name == EVERY => self.every.get_or_insert_default(),
            PatternType::Literal => self.literal.entry(Arc::clone(&binding.name)).or_default(),
            PatternType::Prefixed => {
                if !self.prefixed.contains_key(&binding.name) {
                    *self.lengths.entry(binding.name.len()).or_default() += 1;
                }
                self.prefixed.entry(Arc::clone(&binding.name)).or_default()
            }
        };
        rules.add(binding);
    }

    fn remove(&mut self, binding: &Binding) {
        match binding.pattern {
            PatternType::Literal if &*binding.name == EVERY => {
                self.every = self.every.take().and_then(|rules| rules.without(binding));
            }
            PatternType::Literal => {
                if let Some(rules) = self.literal.remove(&binding.name)
                    && let Some(rest) = rules.without(binding)
                {
                    self.literal.insert(Arc::clone(&binding.name), rest);
                }
            }
            PatternType::Prefixed => {
                let Some(rules) = self.prefixed.remove(&binding.name) else { return };
                match rules.without(binding) {
                    Some(rest) => {
                        self.prefixed.insert(Arc::clone(&binding.name), rest);
                    }
                    None => decrement(&mut self.lengths, binding.name.len()),
                }
            }
        }
    }
}

impl Rules {
    /// What they say of `operation`: a rule that denies wins.
    fn says(&self, who: Who<'_>, operation: Operation) -> Option<Permission> {
        let of_both = [who.user, EVERY].into_iter().filter_map(|user| self.0.get(user));
        let speaking = of_both.flat_map(BTreeMap::keys).filter(|rule| {
            covers(rule.operation, rule.permission, operation) && rule.net.holds(who.address)
        });
        // Deny is less than Allow.
        speaking.map(|rule| rule.permission).min()
    }

    fn add(&mut self, binding: &Binding) {
        let counts = self.0.entry(Arc::clone(&binding.user)).or_default();
        *counts.entry(Rule::of(binding)).or_default() += 1;
    }

    /// Without the rule; `None` when no other is left.
    fn without(mut self, binding: &Binding) -> Option<Self> {
        if let Some(counts) = self.0.get_mut(&binding.user) {
            decrement(counts, Rule::of(binding));
            if counts.is_empty() {
                self.0.remove(&binding.user);
            }
        }
        (!self.0.is_empty()).then_some(self)
    }
}

impl Rule {
    fn of(binding: &Binding) -> Self {
        Self {
            permission: binding.permission,
            operation: binding.operation,
            net: binding.host.net(),
        }
    }
}

fn decrement<K: Ord>(counts: &mut BTreeMap<K, usize>, key: K) {
    if let Entry::Occupied(mut count) = counts.entry(key) {
        *count.get_mut() = count.get().saturating_sub(1);
        if *count.get() == 0 {
            count.remove();
        }
    }
}
