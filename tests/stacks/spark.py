"""A word count with Spark's structured streaming, from a topic to a topic, while the job and the server are killed
(SIGKILL).

The job goes on from its checkpoint. Spark's sink writes a batch again that it has not noted as written: a count that went
before may come again as it was. At the end the highest count of each word is how often it was fed.
"""

from stack import Program, main
from words import Counting, Repeated

# What Spark's own scripts open to it.
OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED" for package in (
    "java.lang", "java.lang.invoke", "java.lang.reflect", "java.io", "java.net", "java.nio", "java.util",
    "java.util.concurrent", "java.util.concurrent.atomic", "jdk.internal.ref", "sun.nio.ch", "sun.nio.cs",
    "sun.security.action", "sun.util.calendar")]


def run(options, scene):
    """Counts words under kills."""
    counting = Counting(scene, Repeated, int)
    program = Program(options, "job", "WordCount", options.bootstrap, options.state / "checkpoints", opens=OPENS)
    scene.programs.append(program)
    counting.rounds(options, program)
    counting.finish()
    scene.programs.remove(program)
    program.end()
    counting.end()
    return {"rounds": options.rounds, **counting.told()}


main(run)
