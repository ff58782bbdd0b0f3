"""A word count with Flink, from a topic to a topic by its exactly-once sink, while the job and the server are killed
(SIGKILL).

The job goes on from its last checkpoint, whose transactions it commits first. At the end readers of committed data find, for
each word, every number from one to how often it was fed, once and in order. `--naming` says how the sink names its
transactions: `incrementing`, or `pooling`, which asks the server for those that are open.
"""

from stack import Program, main
from words import Counting, Counts

# What Flink's own scripts open to it.
OPENS = [f"--add-opens=java.base/{package}=ALL-UNNAMED"
         for package in ("java.lang", "java.net", "java.io", "java.nio", "java.util", "java.util.concurrent", "java.time")]


def run(options, scene):
    """Counts words under kills."""
    counting = Counting(scene, Counts, int)
    program = Program(options, "job", "WordCount", options.bootstrap, options.state / "checkpoints",
                      options.guarantee, options.naming, opens=OPENS)
    scene.programs.append(program)
    counting.rounds(options, program)
    counting.finish()
    scene.programs.remove(program)
    program.end()
    counting.end()
    return {"naming": options.naming, "rounds": options.rounds, **counting.told()}


main(run, ("--naming", "incrementing"), ("--guarantee", "exactly_once"))
