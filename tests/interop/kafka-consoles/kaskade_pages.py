"""Kaskade, a console for a terminal, run without one: its keys are pressed and its tables are read.

The topic `PREFIX` has three partitions, 30 records, and a group of the same name that has read 10 of them and has one
member. What the pages say of them is checked, and a topic is made and deleted as a person does it.
"""

import asyncio
import os
import sys
import time

from kaskade.admin import CreateTopicScreen, DeleteTopicScreen, DescribeTopicScreen, KaskadeAdmin, ListTopics
from textual.widgets import DataTable, Input

NAME = os.environ["PREFIX"]
PATIENCE = 30


async def until(pilot, condition, what):
    """Lets the console go on until something holds; what it is then."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        if found := condition():
            return found
        await pilot.pause(0.05)
    raise AssertionError(what)


def rows(table):
    names = [str(column.label) for column in table.columns.values()]
    return [dict(zip(names, map(str, table.get_row_at(at)))) for at in range(table.row_count)]


class Pages:
    def __init__(self, app, pilot):
        self.app, self.pilot, self.listing = app, pilot, app.query_one(ListTopics)

    def is_complete(self):
        """Whether records, groups and lags of the topics are there, which come one after the other."""
        topics = self.listing.topics
        states = [state.name for it in topics.values() for state in (it.records_state, it.groups_state)]
        return bool(topics) and set(states) == {"READY"}

    def table(self):
        return self.listing.query_one(DataTable)

    def row(self, name):
        return next((row for row in rows(self.table()) if row["Name"] == name), None)

    async def choose(self, name):
        """Puts the cursor on a topic."""
        at = [row["Name"] for row in rows(self.table())].index(name)
        self.table().focus()
        self.table().move_cursor(row=at)
        await self.pilot.pause()

    async def screen(self, kind):
        """The screen of this kind, once it is shown."""
        return await until(
            self.pilot, lambda: self.app.screen if isinstance(self.app.screen, kind) else None, kind.__name__
        )


async def topics(pages):
    await until(pages.pilot, pages.is_complete, "no list of topics")
    row = pages.row(NAME)
    shown = [row[it].lstrip("≈") for it in ("Partitions", "Replicas", "In Sync", "Groups", "Members", "Records", "Lag")]
    assert shown == ["3", "1", "1", "1", "1", "30", "20"], row


async def details(pages):
    await until(pages.pilot, pages.is_complete, "no list of topics")
    await pages.choose(NAME)
    await pages.pilot.press("d")
    screen = await pages.screen(DescribeTopicScreen)
    table = lambda name: rows(screen.query_one(f"#{name}-table", DataTable))  # noqa: E731
    partitions = table("partitions")
    assert [it["ID"] for it in partitions] == ["0", "1", "2"], partitions
    assert [(it["Earliest"], it["End"], it["Leader"]) for it in partitions] == [("0", "10", "1")] * 3, partitions
    settings = {it["Name"]: it["Value"] for it in table("configurations")}
    assert settings["retention.ms"] == "3600000" and settings["cleanup.policy"] == "delete", settings
    [group] = table("groups")
    assert (group["ID"], group["State"].lower(), group["Members"], group["Lag"]) == (NAME, "stable", "1", "20"), group
    lags = {it["Partition"]: (it["Committed"], it["Lag"]) for it in table("group-offsets")}
    assert sum(int(lag) for _, lag in lags.values()) == 20, lags
    [member] = table("group-members")
    assert member["Group"] == NAME and member["Client ID"] == "watched", member
    await pages.pilot.press("escape")


async def create_and_delete(pages):
    name = f"{NAME}-made"
    await until(pages.pilot, pages.is_complete, "no list of topics")
    pages.table().focus()
    await pages.pilot.press("n")
    form = await pages.screen(CreateTopicScreen)
    form.query_one("#name", Input).value = name
    form.query_one("#partitions", Input).value = "4"
    form.action_create()
    made = await until(pages.pilot, lambda: pages.row(name), "it is not made")
    assert made["Partitions"] == "4", made
    await until(pages.pilot, pages.is_complete, "no list of topics")
    await pages.choose(name)
    await pages.pilot.press("ctrl+d")
    form = await pages.screen(DeleteTopicScreen)
    form.query_one("#topic-confirmation", Input).value = name
    form.action_delete()
    await until(pages.pilot, lambda: pages.row(name) is None, "it is still there")


async def run(story):
    app = KaskadeAdmin({"bootstrap.servers": os.environ["BOOTSTRAP"]})
    async with app.run_test(size=(160, 50)) as pilot:
        await story(Pages(app, pilot))


STORIES = {"topics": topics, "details": details, "create-and-delete": create_and_delete}

for which in sys.argv[1:]:
    try:
        asyncio.run(run(STORIES[which]))
        print(f"ok {which}", flush=True)
    except Exception as error:  # noqa: BLE001
        print(f"failed {which}: {type(error).__name__}: {error}", flush=True)
