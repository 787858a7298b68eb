"""A transactional producer for the checker: writes transactions until it is killed, and notes what it was told.

Its notes are lines of a file: `begin N SIZE`, `committed N`, `aborted N`. What has neither of the last two is
undecided: the checker accepts all of it or nothing.
"""

import random
import sys
import time

import confluent_kafka

WITHIN = 30


def work(broker, topic, partitions, worker, notes):
    chance = random.Random(time.time_ns())
    number = sum(line.startswith("begin") for line in open(notes))
    with open(notes, "a", buffering=1) as file:
        while True:
            # A new producer for each trouble: whatever is fatal to one is the past to the next.
            producer = confluent_kafka.Producer({
                "bootstrap.servers": broker, "transactional.id": f"{topic}-{worker}", "linger.ms": 0,
                "socket.connection.setup.timeout.ms": 2000, "reconnect.backoff.max.ms": 200,
            })
            try:
                producer.init_transactions(WITHIN)
                while True:
                    number += 1
                    size = chance.randint(1, 12)
                    file.write(f"begin {number} {size}\n")
                    producer.begin_transaction()
                    for at in range(size):
                        producer.produce(topic, f"{worker} {number} {at} {size}", partition=chance.randrange(partitions))
                    producer.flush(WITHIN)
                    if chance.random() < 0.3:
                        producer.abort_transaction(WITHIN)
                        file.write(f"aborted {number}\n")
                    else:
                        producer.commit_transaction(WITHIN)
                        file.write(f"committed {number}\n")
            except confluent_kafka.KafkaException as trouble:
                error = trouble.args[0]
                print(worker, number, error, file=sys.stderr)
                if error.txn_requires_abort():
                    try:
                        producer.abort_transaction(WITHIN)
                        file.write(f"aborted {number}\n")
                    except confluent_kafka.KafkaException:
                        pass  # The next producer aborts it.
                time.sleep(0.05)


if __name__ == "__main__":
    broker, topic, partitions, worker, notes = sys.argv[1:]
    work(broker, topic, int(partitions), worker, notes)
