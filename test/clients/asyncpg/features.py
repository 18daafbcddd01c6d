import asyncio
import datetime
import decimal
import io
import pathlib
import sys
import uuid

import asyncpg

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from feature_runner import feature, run  # noqa: E402


class connected:
    """A connection that is closed at the end of the block."""

    def __init__(self, url):
        self.url = url

    async def __aenter__(self):
        self.conn = await asyncpg.connect(self.url)
        return self.conn

    async def __aexit__(self, *_):
        await self.conn.close()


async def when_running(url, pid, text):
    async with connected(url) as other:
        while not await other.fetchval(
            """SELECT count(*) FROM pg_stat_activity
                WHERE pid = $1 AND state = 'active' AND query LIKE $2""",
            pid,
            f"%{text}%",
        ):
            pass


@feature("login")
async def login(url):
    async with connected(url) as conn:
        row = await conn.fetchrow(
            """SELECT session_user AS session, who AS worker
                 FROM pg_background_result(pg_background_launch('SELECT session_user'))
                   AS (who text)"""
        )
        return dict(row)


@feature("binary parameters and results")
async def binary(url):
    values = [
        42,
        "größer",
        b"\x00\xff",
        [1, 2, None],
        decimal.Decimal("1.50"),
        datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.timezone.utc),
        None,
        True,
        1.5,
        uuid.UUID(int=7),
        datetime.timedelta(days=1, seconds=2),
    ]
    async with connected(url) as conn:
        row = await conn.fetchrow(
            """SELECT $1::int8, $2::text, $3::bytea, $4::int[], $5::numeric, $6::timestamptz,
                      $7::text, $8::bool, $9::float8, $10::uuid, $11::interval""",
            *values,
        )
        return list(row) == values


@feature("types of the database's own")
async def own_types(url):
    async with connected(url) as conn:
        await conn.execute(
            """CREATE TYPE apg_mood AS ENUM ('sad', 'happy');
               CREATE TYPE apg_pair AS (a int, b apg_mood)"""
        )
        row = await conn.fetchrow(
            "SELECT $1::apg_pair AS pair, $2::apg_mood[] AS moods", (1, "sad"), ["happy"]
        )
        return [list(row["pair"]), row["moods"]]


@feature("prepared statements")
async def prepared(url):
    async with connected(url) as conn:
        statement = await conn.prepare("SELECT $1::int * 2 AS doubled")
        seen = [await statement.fetchval(i) for i in range(3)]
        return {
            "seen": seen,
            "columns": [a.name for a in statement.get_attributes()],
            "prepared": await conn.fetchval("SELECT count(*) > 0 FROM pg_prepared_statements"),
        }


@feature("cursors")
async def cursors(url):
    async with connected(url) as conn, conn.transaction():
        rows = conn.cursor("SELECT i FROM generate_series(1, $1::int) AS i", 100, prefetch=7)
        total = sum([row["i"] async for row in rows])
        cursor = await conn.cursor("SELECT i FROM generate_series(1, 10) AS i")
        await cursor.forward(3)
        return {"total": total, "some": [row["i"] for row in await cursor.fetch(2)]}


@feature("copy_records_to_table")
async def copy_records(url):
    async with connected(url) as conn:
        await conn.execute("CREATE TABLE apg_records (a int, b text)")
        tag = await conn.copy_records_to_table(
            "apg_records", records=[(i, f"row {i}") for i in range(20000)]
        )
        return [tag, *await conn.fetchrow("SELECT count(*), sum(a), max(b) FROM apg_records")]


@feature("copy_to_table and copy_from_query")
async def copy_both(url):
    async with connected(url) as conn:
        await conn.execute("CREATE TABLE apg_copy (a int, b text)")
        await conn.copy_to_table("apg_copy", source=io.BytesIO(b"1,one\n2,two\n"), format="csv")
        out = io.BytesIO()
        await conn.copy_from_query(
            "SELECT * FROM apg_copy WHERE a > $1", 0, output=out, format="csv"
        )
        return out.getvalue().decode()


@feature("listen")
async def listen(url):
    async with connected(url) as conn, connected(url) as sender:
        heard = asyncio.get_running_loop().create_future()
        await conn.add_listener("news", lambda *message: heard.set_result(message))
        await sender.execute("SELECT pg_notify('news', 'größer')")
        _, pid, channel, payload = await heard
        return [channel, payload, pid == sender.get_server_pid()]


@feature("a timeout that cancels")
async def timeout(url):
    async with connected(url) as conn:
        pid = conn.get_server_pid()
        try:
            await conn.execute("SELECT pg_sleep(60)", timeout=0.2)
            seen = "slept"
        except asyncio.TimeoutError:
            seen = "timeout"
        # The next statement waits until the cancel has arrived.
        return [seen, await conn.fetchval("SELECT pg_backend_pid()") == pid]


@feature("a task that is cancelled")
async def cancelled_task(url):
    async with connected(url) as conn:
        task = asyncio.create_task(conn.execute("SELECT pg_sleep(60)"))
        await when_running(url, conn.get_server_pid(), "pg_sleep")
        task.cancel()
        try:
            await task
            seen = "slept"
        except asyncio.CancelledError:
            seen = "cancelled"
        return [seen, await conn.fetchval("SELECT 1")]


@feature("transactions")
async def transactions(url):
    async with connected(url) as conn:
        await conn.execute("CREATE TABLE apg_tx (a int)")
        async with conn.transaction(isolation="serializable"):
            await conn.execute("INSERT INTO apg_tx VALUES (1)")
            try:
                async with conn.transaction():
                    await conn.execute("INSERT INTO apg_tx VALUES (2)")
                    await conn.execute("SELECT 1/0")
            except asyncpg.DivisionByZeroError as error:
                code = error.sqlstate
        return [code, [row["a"] for row in await conn.fetch("SELECT a FROM apg_tx")]]


@feature("executemany")
async def executemany(url):
    async with connected(url) as conn:
        await conn.execute("CREATE TABLE apg_many (a int UNIQUE)")
        await conn.executemany("INSERT INTO apg_many VALUES ($1)", [(i,) for i in range(5000)])
        try:
            await conn.executemany("INSERT INTO apg_many VALUES ($1)", [(5001,), (1,), (5002,)])
            code = None
        except asyncpg.UniqueViolationError as error:
            code = error.sqlstate
        return [code, await conn.fetchval("SELECT count(*) FROM apg_many")]


@feature("pool")
async def pool(url):
    async with asyncpg.create_pool(url, min_size=2, max_size=4) as some:
        # Each release runs the driver's reset: unlisten, close all, reset all.
        values = await asyncio.gather(*(some.fetchval("SELECT $1::int", i) for i in range(50)))
        return sum(values)


@feature("a worker and its result")
async def worker(url):
    async with connected(url) as conn:
        pid = await conn.fetchval(
            "SELECT pg_background_launch($1)", "SELECT i, i * 1.5 FROM generate_series(1, 3) AS i"
        )
        rows = await conn.fetch("SELECT * FROM pg_background_result($1) AS (x int, y numeric)", pid)
        return [[row["x"], str(row["y"])] for row in rows]


@feature("a worker's rows by cursor")
async def worker_cursor(url):
    async with connected(url) as conn, conn.transaction():
        pid = await conn.fetchval("SELECT pg_background_launch('SELECT generate_series(1, 100)')")
        rows = conn.cursor("SELECT * FROM pg_background_result($1) AS (x int)", pid, prefetch=7)
        return sum([row["x"] async for row in rows])


@feature("a worker that outlives the reset of a pool")
async def worker_pool(url):
    async with asyncpg.create_pool(url, min_size=1, max_size=1) as some:
        handle = await some.fetchrow("SELECT * FROM pg_background_launch_v2('SELECT 42')")
        return await some.fetchval(
            "SELECT x FROM pg_background_result_v2($1, $2) AS (x int)", *handle
        )


@feature("a timeout while it waits for a worker")
async def timeout_reader(url):
    async with connected(url) as conn:
        handle = await conn.fetchrow(
            "SELECT * FROM pg_background_launch_v2('SELECT 42 FROM pg_sleep(60)')"
        )
        result = "SELECT x FROM pg_background_result_v2($1, $2) AS (x int)"
        seen = []
        try:
            await conn.fetchval(result, *handle, timeout=0.3)
        except asyncio.TimeoutError:
            seen.append("timeout")
        await conn.fetchval("SELECT pg_background_cancel_v2($1, $2)", *handle)
        await conn.fetchval("SELECT pg_background_wait_v2($1, $2)", *handle)
        try:
            await conn.fetchval(result, *handle)
        except asyncpg.PostgresError as error:
            seen.append(error.sqlstate)
        return seen


run()
