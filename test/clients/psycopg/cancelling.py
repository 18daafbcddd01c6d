"""Cancels what a connection does, as another thread of a program would."""

import threading

import psycopg


def when_running(url, pid, text):
    """Waits until a session is in the middle of a statement that contains a text."""
    with psycopg.connect(url, autocommit=True) as other:
        while not other.execute(
            "SELECT FROM pg_stat_activity WHERE pid = %s AND state = 'active' AND query LIKE %s",
            (pid, f"%{text}%"),
        ).rowcount:
            pass


def cancel_when_running(conn, url, text):
    def cancel():
        when_running(url, conn.info.backend_pid, text)
        conn.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    return thread
