import datetime
import decimal
import pathlib
import sys

import psycopg
from psycopg.rows import dict_row

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from feature_runner import feature, run  # noqa: E402
from cancelling import cancel_when_running  # noqa: E402
import workers  # noqa: E402, F401 - more features

VALUES = [
    42,
    "größer",
    b"\x00\xff",
    [1, 2, None],
    decimal.Decimal("1.50"),
    datetime.datetime(2024, 2, 29, 12, 0, tzinfo=datetime.timezone.utc),
    None,
    True,
    1.5,
]
QUERY = """SELECT %s::int8, %s::text, %s::bytea, %s::int[], %s::numeric, %s::timestamptz, %s::text,
                  %s::bool, %s::float8"""


@feature("login")
def login(url):
    with psycopg.connect(url, row_factory=dict_row) as conn:
        return conn.execute(
            """SELECT session_user AS session, who AS worker
                 FROM pg_background_result(pg_background_launch('SELECT session_user'))
                   AS (who text)"""
        ).fetchone()


@feature("text parameters and results")
def text_format(url):
    with psycopg.connect(url) as conn:
        return list(conn.execute(QUERY.replace("%s", "%t"), VALUES).fetchone()) == VALUES


@feature("binary parameters and results")
def binary_format(url):
    with psycopg.connect(url) as conn, conn.cursor(binary=True) as cur:
        cur.execute(QUERY.replace("%s", "%b"), VALUES)
        is_binary = all(cur.pgresult.fformat(i) == 1 for i in range(len(VALUES)))
        return {"isBinary": is_binary, "isSame": list(cur.fetchone()) == VALUES}


@feature("prepared statements")
def prepared(url):
    with psycopg.connect(url) as conn:
        seen = [
            conn.execute("SELECT %s::int * 2", (i,), prepare=True).fetchone()[0] for i in range(3)
        ]
        count = conn.execute("SELECT count(*) FROM pg_prepared_statements").fetchone()[0]
        return {"seen": seen, "prepared": count}


@feature("pipeline mode")
def pipeline(url):
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE psy_pipeline (a int)")
        with conn.pipeline(), conn.cursor() as cur:
            cursors = [conn.execute("SELECT %s::int", (i,)) for i in range(200)]
            cur.executemany("INSERT INTO psy_pipeline VALUES (%s)", [(i,) for i in range(500)])
            total = sum(c.fetchone()[0] for c in cursors)
        return [total, conn.execute("SELECT count(*) FROM psy_pipeline").fetchone()[0]]


@feature("an error in a pipeline")
def pipeline_error(url):
    with psycopg.connect(url, autocommit=True) as conn:
        seen = []
        try:
            with conn.pipeline() as pipe:
                first = conn.execute("SELECT 1")
                pipe.sync()
                seen.append(first.fetchone()[0])
                conn.execute("SELECT 1/0")
                conn.execute("SELECT 2")
                pipe.sync()
        except psycopg.Error as error:
            seen.append(error.sqlstate)
        seen.append(conn.execute("SELECT 3").fetchone()[0])
        return seen


@feature("COPY in")
def copy_in(url):
    with psycopg.connect(url) as conn, conn.cursor() as cur:
        cur.execute("CREATE TABLE psy_in (a int, b text)")
        with cur.copy("COPY psy_in FROM STDIN") as copy:
            for i in range(20000):
                copy.write_row((i, f"row {i}"))
        return list(cur.execute("SELECT count(*), sum(a), max(b) FROM psy_in").fetchone())


@feature("COPY in, binary")
def copy_in_binary(url):
    with psycopg.connect(url) as conn, conn.cursor() as cur:
        cur.execute("CREATE TABLE psy_binary (a int4, b text)")
        with cur.copy("COPY psy_binary FROM STDIN (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            for i in range(2000):
                copy.write_row((i, f"row {i}"))
        return list(cur.execute("SELECT count(*), sum(a), max(b) FROM psy_binary").fetchone())


@feature("COPY out")
def copy_out(url):
    with psycopg.connect(url) as conn, conn.cursor() as cur:
        query = "COPY (SELECT i, i::text FROM generate_series(1, 20000) AS i) TO STDOUT"
        with cur.copy(query) as copy:
            rows = list(copy.rows())
        with cur.copy(query + " (FORMAT binary)") as copy:
            copy.set_types(["int4", "text"])
            binary = list(copy.rows())
        return {"rows": len(rows), "last": rows[-1], "binary": len(binary), "end": binary[-1]}


@feature("COPY that the client gives up")
def copy_given_up(url):
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("CREATE TABLE psy_given_up (a int)")
        try:
            with conn.cursor().copy("COPY psy_given_up FROM STDIN") as copy:
                copy.write_row((1,))
                raise RuntimeError("changed my mind")
        except psycopg.errors.QueryCanceled as error:
            seen = error.sqlstate
        return [seen, conn.execute("SELECT count(*) FROM psy_given_up").fetchone()[0]]


@feature("server-side cursors")
def server_side_cursors(url):
    with psycopg.connect(url) as conn:
        with conn.cursor("named", scrollable=True) as cur:
            cur.itersize = 100
            cur.execute("SELECT i FROM generate_series(1, %s) AS i", (1000,))
            some = [row[0] for row in cur.fetchmany(3)]
            total = sum(row[0] for row in cur)
            cur.scroll(9, mode="absolute")
            tenth = cur.fetchone()[0]
        with psycopg.ServerCursor(conn, "binary") as cur:
            cur.execute("SELECT 1.5::float8", binary=True)
            binary = cur.fetchone()[0]
        return {"some": some, "rest": total, "tenth": tenth, "binary": binary}


@feature("notifies")
def notifies(url):
    with psycopg.connect(url, autocommit=True) as conn:
        conn.execute("LISTEN news")
        with psycopg.connect(url, autocommit=True) as sender:
            sender.execute("SELECT pg_notify('news', 'größer')")
            heard = next(conn.notifies())
            return [heard.channel, heard.payload, heard.pid == sender.info.backend_pid]


@feature("cancel")
def cancel(url):
    with psycopg.connect(url, autocommit=True) as conn:
        thread = cancel_when_running(conn, url, "pg_sleep")
        try:
            conn.execute("SELECT pg_sleep(60)")
            seen = [None]
        except psycopg.errors.QueryCanceled as error:
            seen = [error.sqlstate]
        thread.join()
        return seen + [conn.execute("SELECT 1").fetchone()[0]]


@feature("transactions")
def transactions(url):
    with psycopg.connect(url) as conn:
        conn.execute("CREATE TABLE psy_tx (a int)")
        conn.commit()
        with conn.transaction():
            conn.execute("INSERT INTO psy_tx VALUES (1)")
            with conn.transaction(force_rollback=True):
                conn.execute("INSERT INTO psy_tx VALUES (2)")
        conn.execute("INSERT INTO psy_tx VALUES (3)")
        conn.rollback()
        return [row[0] for row in conn.execute("SELECT a FROM psy_tx")]


@feature("client-side binding")
def client_side_binding(url):
    with psycopg.connect(url) as conn, psycopg.ClientCursor(conn) as cur:
        cur.execute("SELECT %s, %s, %s; SELECT 2", (1, "o'clock", b"\x00\\"))
        row = list(cur.fetchone())
        cur.nextset()
        return [row[0], row[1], row[2].hex(), cur.fetchone()[0]]


@feature("asynchronous connections")
async def asynchronous(url):
    async with await psycopg.AsyncConnection.connect(url, row_factory=dict_row) as conn:
        await conn.execute("CREATE TEMPORARY TABLE t AS SELECT generate_series(1, 10) AS a")
        async with conn.cursor("named") as cur:
            await cur.execute("SELECT a FROM t WHERE a < %s", (4,))
            return [row async for row in cur]


@feature("large values")
def large(url):
    with psycopg.connect(url) as conn:
        data = bytes(range(256)) * 40000
        (back,) = conn.execute("SELECT %b::bytea", (data,), binary=True).fetchone()
        return back == data


run()
