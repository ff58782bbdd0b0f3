"""Lines of words without an end, and what counting them must come to: for the stacks that count words."""

import collections
import random

from stack import Feed, Reader, check, remark

LINES, COUNTS, PARTITIONS = "lines", "counts", 4
WORDS = [f"word-{number}" for number in range(60)]


class Text:
    """Lines, and how often each word was in them."""

    def __init__(self):
        self.random, self.fed = random.Random(1), collections.Counter()

    def __next__(self):
        words = self.random.choices(WORDS, k=5)
        self.fed.update(words)
        return {"value": " ".join(words)}


class Counts:
    """The counts of each word in the topic of the counts, none beyond what was fed."""

    def __init__(self, fed, number):
        """`number` makes a count of a record's value."""
        self.fed, self.number, self.last = fed, number, collections.Counter()
        self.by_partition = [0] * PARTITIONS

    def __call__(self, message):
        word, count = message.key().decode(), self.number(message.value())
        where = f"{word} at {message.topic()}/{message.partition()}/{message.offset()}"
        self.compare(word, count, where)
        check(count <= self.fed[word], f"DOUBLED: {count}, but fed {self.fed[word]} times: {where}")
        self.last[word] = max(count, self.last[word])
        self.by_partition[message.partition()] += 1

    def compare(self, word, count, where):
        """Each count once, and in order."""
        wanted = self.last[word] + 1
        check(count >= wanted, f"DOUBLED, or out of order: {count} after {wanted - 1} of {where}")
        check(count <= wanted, f"LOST: {count} after {wanted - 1} of {where}")


class Repeated(Counts):
    """Counts that are passed on now and then, and may be passed on again as they were."""

    def __init__(self, fed, number):
        super().__init__(fed, number)
        self.seen = collections.defaultdict(set)

    def compare(self, word, count, where):
        known = self.seen[word]
        check(count > self.last[word] or count in known, f"OUT OF ORDER: {count} after {self.last[word]} of {where}")
        known.add(count)


class Counting:
    """Words that are fed to a program, and the counts that come out of it."""

    def __init__(self, scene, counts, number):
        self.scene, text = scene, Text()
        scene.create(LINES, PARTITIONS)
        scene.create(COUNTS, PARTITIONS)
        self.fed, self.counts = text.fed, counts(text.fed, number)
        self.feed = Feed(scene, LINES, text)
        self.reader = Reader(scene.bootstrap, COUNTS, PARTITIONS, self.counts)
        scene.readers.append(self.reader)

    def progress(self):
        """More is fed, and every word is counted as often as it was fed by then."""
        sent = self.feed.sent
        self.scene.wait("more is fed", lambda: self.feed.sent >= sent + 200)
        fed = dict(self.fed)
        self.scene.wait("the counts reach what was fed", lambda: all(
            self.counts.last[word] >= count for word, count in fed.items()))

    def rounds(self, options, program):
        """Kills the program, the server, and both in turn, and starts them again."""
        for number in range(options.rounds):
            self.progress()
            what = ("program", "server", "both", "program")[number % 4]
            remark(f"round {number + 1}: {sum(self.counts.by_partition)} counts; killing: {what}")
            if what != "server":
                program.kill()
            if what != "program":
                self.scene.server.kill()
                self.scene.server.start()
            if what != "server":
                program.start()
        self.progress()

    def finish(self):
        self.feed.finish()
        self.scene.wait("everything is counted", lambda: self.counts.last == self.fed)

    def end(self):
        """Nothing has been counted after everything had been counted."""
        self.scene.readers.remove(self.reader)
        self.reader.to_end(self.scene)
        check(self.counts.last == self.fed, "something was counted after everything had been counted")

    def told(self):
        return {"lines": self.feed.sent, "counts": sum(self.counts.by_partition)}
