//! Scripts: lines that begin with `>` are done, the lines after each are what came of it.
//!
//! ```text
//! > a join [instance=i] [id=a#1] [protocols=range:t,rr:t] [type=..] [session=10] [rebalance=60]
//!          [new] [known] [old]     new: forget the id; known: come back with the id that you are
//!                                  given; old: can't skip the assignment
//! > a sync [a=x b=y] [generation=1] [protocol=rr] [id=..] [instance=..]
//! > a beat [generation=1] [id=..] [instance=..]
//! > a leave / > admin leave a#1 instance=i
//! > a commit t-0=5 [meta=..] [retention=10] [within=7] / > simple commit t-0=5
//! > transaction 7 commits / > transaction 7 aborts
//! > fetch [t-0 t-1] [unstable] / > delete offsets t-0 / > delete group / > delete topic t
//! > +10s / > crash / > append fails / > group / > list [state=..] [type=..]
//! > max 2 / > expiry off / > expiry on
//! ```
//!
//! Actors join and speak with the id and generation that they were told last. Member ids are shown
//! as name and number: `a#2` is the second id that was made for `a`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use millstream_types::{LeaderEpoch, Offset, ProducerId, Uuid};

use super::super::*;
use super::host::Host;

pub(super) const GROUP: &str = "g";

#[derive(Clone, Debug, Default)]
struct Actor {
    member: String,
    instance: Option<String>,
    generation: i32,
}

struct Script {
    host: Host,
    actors: BTreeMap<String, Actor>,
    asked: BTreeMap<Ticket, String>,
    /// How many ids were made for each name.
    ids: BTreeMap<String, u128>,
    out: String,
}

/// Runs a script and compares what came of it with what the script says.
#[track_caller]
pub(super) fn check(script: &str) {
    check_with(GroupSettings::default(), script);
}

/// As [`check`], with settings.
#[track_caller]
pub(super) fn check_with(settings: GroupSettings, script: &str) {
    let lines: Vec<_> = script.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let mut run = Script {
        host: Host::new(settings),
        actors: BTreeMap::new(),
        asked: BTreeMap::new(),
        ids: BTreeMap::new(),
        out: String::new(),
    };
    for line in &lines {
        if let Some(command) = line.strip_prefix('>') {
            writeln!(run.out, "{line}").unwrap();
            run.run(command.trim());
            run.show_answers();
        }
    }
    let expected: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert!(expected == run.out, "the script says\n{expected}\nbut it went\n{}", run.out);
}

/// What a consumer of `topics` (joined by `+`) says for its protocol.
pub(super) fn subscription(topics: &str) -> Bytes {
    let topics: Vec<_> = topics.split('+').filter(|topic| !topic.is_empty()).collect();
    let mut out = BytesMut::new();
    out.put_i16(0);
    out.put_i32(i32::try_from(topics.len()).unwrap());
    for topic in topics {
        out.put_i16(i16::try_from(topic.len()).unwrap());
        out.put_slice(topic.as_bytes());
    }
    out.put_i32(-1);
    out.freeze()
}

/// `a-00000000-0000-0000-0000-000000000001` is shown as `a#1`.
fn shown(member: &str) -> String {
    match member.len().checked_sub(37).and_then(|cut| member.split_at_checked(cut)) {
        Some((name, uuid)) => {
            let number = u128::from_str_radix(&uuid.replace('-', ""), 16).unwrap();
            format!("{name}#{number}")
        }
        None => member.to_owned(),
    }
}

/// The reverse of [`shown`].
fn meant(shown: &str) -> String {
    let Some((name, number)) = shown.split_once('#') else { return shown.to_owned() };
    let hex = format!("{:032x}", number.parse::<u128>().unwrap());
    format!("{name}-{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
}

struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn get(&self, key: &str) -> Option<&'a str> {
        self.0.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    fn has(&self, flag: &str) -> bool {
        self.0.contains(&flag)
    }

    fn number(&self, key: &str, default: i32) -> i32 {
        self.get(key).map_or(default, |text| text.parse().unwrap())
    }

    /// `t-0=5` as topic, partition and the rest.
    fn partitions(&self) -> Vec<(&'a str, i32, &'a str)> {
        let parse = |word: &&'a str| {
            let (name, rest) = word.split_once('=').unwrap_or((word, ""));
            let (topic, index) = name.rsplit_once('-')?;
            Some((topic, index.parse().ok()?, rest))
        };
        self.0.iter().filter_map(parse).collect()
    }
}

impl Script {
    fn run(&mut self, command: &str) {
        let words: Vec<_> = command.split_whitespace().collect();
        let rest = Words(words[1..].to_vec());
        match (words[0], rest.0.first().copied().unwrap_or("")) {
            ("crash", _) => self.host.crash(),
            ("append", _) => self.host.fails = Some(HostFailure::Unavailable),
            ("max", members) => {
                self.host.settings.members_max = members.parse().unwrap();
                self.host.groups.configure(self.host.settings);
            }
            ("expiry", state) => self.host.groups.pause_expiry(state == "off"),
            ("group", _) => self.show_group(),
            ("list", _) => self.show_list(&rest),
            ("fetch", _) => self.show_offsets(&rest),
            ("transaction", producer) => {
                let commit = rest.has("commits");
                self.host.end_transaction(ProducerId(producer.parse().unwrap()), commit);
            }
            ("delete", "topic") => self.host.delete_topic(rest.0[1]),
            ("delete", "group") => {
                let command = DeleteGroups { groups: vec![Arc::from(GROUP)] };
                self.send("admin", Command::DeleteGroups(command));
            }
            ("delete", _) => self.delete_offsets(&rest),
            (time, _) if time.starts_with('+') => {
                let seconds: f64 = time[1..].trim_end_matches('s').parse().unwrap();
                self.host.advance(Duration::from_secs_f64(seconds));
            }
            (name, "join") => self.join(name, &rest),
            (name, "sync") => self.sync(name, &rest),
            (name, "beat") => {
                let speaker = self.speaker(name, &rest);
                self.send(name, Command::Heartbeat(Heartbeat { speaker }));
            }
            (name, "leave") => self.leave(name, &rest),
            (name, "commit") => self.commit(name, &rest),
            _ => panic!("no such command: {command}"),
        }
    }

    fn send(&mut self, name: &str, command: Command) {
        let ticket = self.host.send(command);
        self.asked.insert(ticket, name.to_owned());
    }

    fn join(&mut self, name: &str, words: &Words<'_>) {
        let actor = self.actors.entry(name.to_owned()).or_default();
        if let Some(instance) = words.get("instance") {
            actor.instance = Some(instance.to_owned());
        }
        if words.has("new") {
            actor.member.clear();
        }
        let member = words.get("id").map_or_else(|| actor.member.clone(), meant);
        let named = actor.instance.clone().unwrap_or_else(|| name.to_owned());
        let number = self.ids.entry(named).or_default();
        *number += u128::from(member.is_empty());
        let protocols = words.get("protocols").unwrap_or("range:t").split(',').map(|protocol| {
            let (name, topics) = protocol.split_once(':').unwrap_or((protocol, "t"));
            Protocol { name: Arc::from(name), metadata: subscription(topics) }
        });
        let session = words.number("session", 10);
        let join = Join {
            group: Arc::from(GROUP),
            member: Arc::from(member),
            instance: actor.instance.as_deref().map(Arc::from),
            client_id: Arc::from(name),
            client_host: Arc::from("/127.0.0.1"),
            session_timeout_ms: session.saturating_mul(1000),
            rebalance_timeout_ms: words.number("rebalance", 60).saturating_mul(1000),
            protocol_type: Arc::from(words.get("type").unwrap_or("consumer")),
            protocols: protocols.filter(|protocol| !protocol.name.is_empty()).collect(),
            require_known_member_id: words.has("known"),
            can_skip_assignment: !words.has("old"),
            fresh: Uuid(number.to_be_bytes()),
            asker: None,
        };
        self.send(name, Command::Join(join));
    }

    fn speaker(&self, name: &str, words: &Words<'_>) -> Speaker {
        let actor =
            self.actors.get(name).cloned().unwrap_or(Actor { generation: -1, ..Actor::default() });
        let instance = words.get("instance").map(str::to_owned).or(actor.instance);
        Speaker {
            group: Arc::from(words.get("group").unwrap_or(GROUP)),
            member: Arc::from(words.get("id").map_or(actor.member, meant)),
            instance: instance.as_deref().map(Arc::from),
            generation: words.number("generation", actor.generation),
        }
    }

    fn sync(&mut self, name: &str, words: &Words<'_>) {
        let speaker = self.speaker(name, words);
        let assignments = words.0[1..].iter().filter_map(|word| {
            let (to, what) = word.split_once('=')?;
            let member = self.actors.get(to).map(|actor| actor.member.clone());
            let member = member.or_else(|| to.contains('#').then(|| meant(to)))?;
            Some((Arc::from(member), Bytes::copy_from_slice(what.as_bytes())))
        });
        let sync = Sync {
            assignments: assignments.collect(),
            protocol_type: words.get("type").map(Arc::from),
            protocol: words.get("protocol").map(Arc::from),
            speaker,
        };
        self.send(name, Command::Sync(sync));
    }

    fn leave(&mut self, name: &str, words: &Words<'_>) {
        let named: Vec<_> = words.0[1..]
            .iter()
            .map(|word| match word.split_once('=') {
                Some((_, instance)) => {
                    Leaver { member: Arc::from(""), instance: Some(Arc::from(instance)) }
                }
                None => Leaver { member: Arc::from(meant(word)), instance: None },
            })
            .collect();
        let members = if named.is_empty() {
            let actor = &self.actors[name];
            let instance = actor.instance.as_deref().map(Arc::from);
            vec![Leaver { member: Arc::from(actor.member.as_str()), instance }]
        } else {
            named
        };
        self.send(name, Command::Leave(Leave { group: Arc::from(GROUP), members }));
    }

    fn commit(&mut self, name: &str, words: &Words<'_>) {
        let topics = words.partitions().into_iter().map(|(topic, index, offset)| CommitTopic {
            name: Arc::from(topic),
            id: words.get("topic_id").map(|id| Uuid(id.parse::<u128>().unwrap().to_be_bytes())),
            partitions: vec![CommitPartition {
                index,
                offset: Offset(offset.parse().unwrap()),
                leader_epoch: LeaderEpoch(words.number("epoch", -1)),
                metadata: Arc::from(words.get("meta").unwrap_or("")),
            }],
        });
        let commit = Commit {
            topics: topics.collect(),
            speaker: self.speaker(name, words),
            speaks_epochs: true,
            retention_ms: words.get("retention").map(|it| it.parse::<i64>().unwrap() * 1000),
        };
        match words.get("within") {
            None => self.send(name, Command::Commit(commit)),
            Some(producer) => {
                let ticket = self.host.commit_within(producer.parse().unwrap(), commit);
                self.asked.insert(ticket, name.to_owned());
            }
        }
    }

    fn delete_offsets(&mut self, words: &Words<'_>) {
        let topics = words.partitions().into_iter();
        let topics = topics.map(|(topic, index, _)| (Arc::from(topic), vec![index])).collect();
        let request = DeleteOffsets { group: Arc::from(GROUP), topics };
        self.send("admin", Command::DeleteOffsets(request));
    }

    fn show_answers(&mut self) {
        let mut answers: Vec<_> = self.host.answers.clone().into_iter().collect();
        answers.sort_by_key(|(ticket, _)| *ticket);
        self.host.answers.clear();
        for (ticket, reply) in answers {
            let name = self.asked[&ticket].clone();
            if let Some(actor) = self.actors.get_mut(&name) {
                match &reply {
                    Reply::Join(Ok(joined)) => {
                        actor.member = joined.member.to_string();
                        actor.generation = joined.generation;
                    }
                    Reply::Join(Err(refused)) if refused.error == JoinError::MemberIdRequired => {
                        actor.member = refused.member.to_string();
                    }
                    _ => {}
                }
            }
            writeln!(self.out, "{name}: {}", describe(&reply)).unwrap();
        }
    }

    fn show_group(&mut self) {
        let Some(group) = self.host.groups.describe(GROUP) else {
            return writeln!(self.out, "no group").unwrap();
        };
        let name = group.state.name();
        let (kind, protocol) = (&group.protocol_type, &group.protocol);
        write!(self.out, "{name} [{kind}/{protocol}] generation {}", group.generation).unwrap();
        for member in group.members {
            let assignment = String::from_utf8_lossy(&member.assignment).into_owned();
            write!(self.out, " {}", shown(&member.member)).unwrap();
            if let Some(instance) = member.instance {
                write!(self.out, "@{instance}").unwrap();
            }
            if !assignment.is_empty() {
                write!(self.out, "={assignment}").unwrap();
            }
        }
        writeln!(self.out).unwrap();
    }

    fn show_list(&mut self, words: &Words<'_>) {
        let all = |key| words.get(key).map(str::to_owned).into_iter().collect();
        let filter = ListFilter { states: all("state"), types: all("type") };
        for listed in self.host.groups.list(&filter) {
            let (group, kind, state) = (listed.group, listed.protocol_type, listed.state.name());
            writeln!(self.out, "{group} [{kind}] {state}").unwrap();
        }
    }

    fn show_offsets(&mut self, words: &Words<'_>) {
        let asked: Vec<_> = words
            .partitions()
            .into_iter()
            .map(|(topic, index, _)| FetchTopic {
                name: Arc::from(topic),
                id: words.get("topic_id").map(|id| Uuid(id.parse::<u128>().unwrap().to_be_bytes())),
                partitions: vec![index],
            })
            .collect();
        let asked = (!asked.is_empty()).then_some(asked);
        let stable = !words.has("unstable");
        for (topic, partitions) in self.host.groups.fetch_offsets(GROUP, asked.as_deref(), stable) {
            for fetched in partitions {
                write!(self.out, "{topic}-{}: ", fetched.index).unwrap();
                match fetched.committed {
                    Err(FetchError::Unstable) => writeln!(self.out, "unstable").unwrap(),
                    Ok(None) => writeln!(self.out, "none").unwrap(),
                    Ok(Some(it)) => {
                        let (offset, epoch, note) = (it.offset, it.leader_epoch, it.metadata);
                        writeln!(self.out, "{offset} epoch {epoch} {note:?}").unwrap();
                    }
                }
            }
        }
    }
}

fn describe(reply: &Reply) -> String {
    match reply {
        Reply::Join(Ok(joined)) => {
            let (generation, leader) = (joined.generation, shown(&joined.leader));
            let mut text = format!("joined as {} generation {generation}", shown(&joined.member));
            let protocol = joined.protocol.as_deref().unwrap_or("none");
            write!(text, " {protocol} led by {leader}").unwrap();
            if joined.skip_assignment {
                text.push_str(" (skip)");
            }
            if !joined.members.is_empty() {
                text.push_str(" with");
            }
            for member in &joined.members {
                write!(text, " {}", shown(&member.member)).unwrap();
            }
            text
        }
        Reply::Join(Err(refused)) => match &*refused.member {
            "" => format!("join refused {:?}", refused.error),
            member => format!("join refused {:?} {}", refused.error, shown(member)),
        },
        Reply::Sync(Ok(synced)) => {
            format!("synced {:?}", String::from_utf8_lossy(&synced.assignment))
        }
        Reply::Sync(Err(error)) => format!("sync refused {error:?}"),
        Reply::Heartbeat(Ok(())) => "beat".to_owned(),
        Reply::Heartbeat(Err(error)) => format!("beat refused {error:?}"),
        Reply::ConsumerHeartbeat(result) => format!("{result:?}"),
        Reply::StreamsHeartbeat(result) => format!("{result:?}"),
        Reply::Leave(Ok(results)) => results.iter().fold("left".to_owned(), |text, result| {
            text + &result.map_or_else(|error| format!(" {error:?}"), |()| " ok".to_owned())
        }),
        Reply::Leave(Err(error)) => format!("leave refused {error:?}"),
        Reply::Commit(Ok(topics)) => {
            let results = topics.iter().flat_map(|(_, partitions)| partitions);
            results.fold("committed".to_owned(), |text, (_, result)| {
                text + &result.map_or_else(|error| format!(" {error:?}"), |()| " ok".to_owned())
            })
        }
        Reply::Commit(Err(error)) => format!("commit refused {error:?}"),
        Reply::DeleteOffsets(Ok(topics)) => {
            let results = topics.iter().flat_map(|(_, partitions)| partitions);
            results.fold("deleted".to_owned(), |text, (_, result)| {
                text + &result.map_or_else(|error| format!(" {error:?}"), |()| " ok".to_owned())
            })
        }
        Reply::DeleteOffsets(Err(error)) => format!("delete refused {error:?}"),
        Reply::DeleteGroups(results) => {
            results.iter().fold("deleted".to_owned(), |text, (_, result)| {
                text + &result.map_or_else(|error| format!(" {error:?}"), |()| " ok".to_owned())
            })
        }
    }
}
