"""Workers, as a program with psycopg launches and reads them."""

import datetime

import psycopg
from psycopg import sql

from cancelling import cancel_when_running
from feature_runner import feature


@feature("a worker and its result")
def worker(url):
    with psycopg.connect(url) as conn, conn.cursor() as cur:
        cur.execute(
            "SELECT pg_background_launch(%s)",
            ("SELECT i, i * 1.5 FROM generate_series(1, 3) AS i",),
        )
        (pid,) = cur.fetchone()
        cur.execute("SELECT * FROM pg_background_result(%s) AS (x int, y numeric)", (pid,))
        return [[x, str(y)] for x, y in cur]


@feature("a worker and its result, binary")
def worker_binary(url):
    with psycopg.connect(url) as conn, conn.cursor(binary=True) as cur:
        cur.execute("SELECT * FROM pg_background_launch_v2(%b)", ("SELECT 1, 'größer', now()",))
        handle = cur.fetchone()
        cur.execute(
            "SELECT * FROM pg_background_result_v2(%b, %b) AS (a int, b text, c timestamptz)",
            handle,
        )
        a, b, c = cur.fetchone()
        return [a, b, isinstance(c, datetime.datetime)]


@feature("workers in pipeline mode")
def workers_in_pipeline(url):
    with psycopg.connect(url, autocommit=True) as conn:
        with conn.pipeline():
            launched = [
                conn.execute("SELECT * FROM pg_background_launch_v2(%s)", (f"SELECT {i} * 10",))
                for i in range(5)
            ]
            results = [
                conn.execute(
                    "SELECT * FROM pg_background_result_v2(%s, %s) AS (x int)", cur.fetchone()
                )
                for cur in launched
            ]
            return [cur.fetchone()[0] for cur in results]


@feature("a worker's rows by COPY")
def worker_copy(url):
    with psycopg.connect(url) as conn, conn.cursor() as cur:
        cur.execute("SELECT pg_background_launch('SELECT generate_series(1, 5000)')")
        pid = cur.fetchone()[0]
        query = sql.SQL("COPY (SELECT * FROM pg_background_result({}) AS (x int)) TO STDOUT")
        with cur.copy(query.format(pid)) as copy:
            return sum(int(row[0]) for row in copy.rows())


@feature("a worker's error")
def worker_error(url):
    with psycopg.connect(url, autocommit=True) as conn:
        pid = conn.execute("SELECT pg_background_launch('SELECT 1/0')").fetchone()[0]
        try:
            conn.execute("SELECT * FROM pg_background_result(%s) AS (x int)", (pid,))
        except psycopg.errors.DivisionByZero as error:
            return [error.sqlstate, conn.execute("SELECT 1").fetchone()[0]]


@feature("cancelled while it waits for a worker")
def cancel_reader(url):
    with psycopg.connect(url, autocommit=True) as conn:
        handle = conn.execute(
            "SELECT * FROM pg_background_launch_v2('SELECT 42 FROM pg_sleep(60)')"
        ).fetchone()
        thread = cancel_when_running(conn, url, "result_v2")
        seen = []
        try:
            conn.execute("SELECT * FROM pg_background_result_v2(%s, %s) AS (x int)", handle)
        except psycopg.Error as error:
            seen.append(error.sqlstate)
        thread.join()
        conn.execute("SELECT pg_background_cancel_v2(%s, %s)", handle)
        conn.execute("SELECT pg_background_wait_v2(%s, %s)", handle)
        try:
            conn.execute("SELECT * FROM pg_background_result_v2(%s, %s) AS (x int)", handle)
        except psycopg.Error as error:
            seen.append(error.sqlstate)
        return seen
