import java.io.StringReader;
import java.io.StringWriter;
import java.nio.charset.StandardCharsets;
import java.sql.Connection;
import java.sql.DatabaseMetaData;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Savepoint;
import java.sql.Statement;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.CompletableFuture;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.largeobject.LargeObject;
import org.postgresql.largeobject.LargeObjectManager;

/** What the driver does with a session beyond its statements. */
class SessionFeatures {
  private final Database database;

  SessionFeatures(Database database) {
    this.database = database;
  }

  Map<String, Database.Work> all() {
    Map<String, Database.Work> all = new LinkedHashMap<>();
    all.put("login", this::login);
    all.put("CopyManager in", this::copyIn);
    all.put("CopyManager out", this::copyOut);
    all.put("Statement.cancel", this::cancel);
    all.put("setQueryTimeout", this::queryTimeout);
    all.put("LISTEN", this::listen);
    all.put("transactions, autosave", this::transactions);
    all.put("large objects", this::largeObject);
    all.put("DatabaseMetaData", this::metaData);
    return all;
  }

  private Object login() throws Exception {
    try (Connection connection = database.connect()) {
      return List.of(
          Database.value(connection, "SELECT session_user::text"),
          Database.value(
              connection,
              "SELECT who FROM pg_background_result("
                  + "pg_background_launch('SELECT session_user')) AS (who text)"));
    }
  }

  private Object copyIn() throws Exception {
    try (Connection connection = database.connect()) {
      Database.execute(connection, "CREATE TABLE jdbc_copy (a int, b text)");
      StringBuilder lines = new StringBuilder();
      for (int i = 0; i < 20000; i++) lines.append(i).append("\trow ").append(i).append('\n');
      long count =
          connection
              .unwrap(PGConnection.class)
              .getCopyAPI()
              .copyIn("COPY jdbc_copy FROM STDIN", new StringReader(lines.toString()));
      return List.of(count, Database.value(connection, "SELECT sum(a) FROM jdbc_copy"));
    }
  }

  private Object copyOut() throws Exception {
    try (Connection connection = database.connect()) {
      StringWriter out = new StringWriter();
      long count =
          connection
              .unwrap(PGConnection.class)
              .getCopyAPI()
              .copyOut("COPY (SELECT generate_series(1, 20000)) TO STDOUT", out);
      int lines = out.toString().split("\n").length;
      return List.of(count, lines, Database.value(connection, "SELECT 1"));
    }
  }

  private Object cancel() throws Exception {
    try (Connection connection = database.connect();
        Statement statement = connection.createStatement()) {
      int pid = connection.unwrap(PGConnection.class).getBackendPID();
      CompletableFuture<Void> canceller =
          CompletableFuture.runAsync(
              () -> {
                try {
                  database.whenRunning(pid, "pg_sleep");
                  statement.cancel();
                } catch (SQLException error) {
                  throw new IllegalStateException(error);
                }
              });
      String code = Database.codeOf(() -> statement.execute("SELECT pg_sleep(60)"));
      canceller.get();
      return List.of(code, Database.value(connection, "SELECT 1"));
    }
  }

  private Object queryTimeout() throws Exception {
    try (Connection connection = database.connect();
        Statement statement = connection.createStatement()) {
      statement.setQueryTimeout(1);
      String code = Database.codeOf(() -> statement.execute("SELECT pg_sleep(60)"));
      return List.of(code, Database.value(connection, "SELECT 1"));
    }
  }

  private Object listen() throws Exception {
    try (Connection connection = database.connect(); Connection sender = database.connect()) {
      Database.execute(connection, "LISTEN news");
      Database.execute(sender, "SELECT pg_notify('news', 'größer')");
      PGNotification[] heard =
          connection.unwrap(PGConnection.class).getNotifications(30_000);
      return List.of(heard.length, heard[0].getName(), heard[0].getParameter());
    }
  }

  private Object transactions() throws Exception {
    try (Connection connection = database.connect("autosave=always")) {
      Database.execute(connection, "CREATE TABLE jdbc_tx (a int)");
      connection.setAutoCommit(false);
      connection.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
      Database.execute(connection, "INSERT INTO jdbc_tx VALUES (1)");
      Savepoint savepoint = connection.setSavepoint();
      Database.execute(connection, "INSERT INTO jdbc_tx VALUES (2)");
      connection.rollback(savepoint);
      // With autosave the transaction survives it.
      String code = Database.codeOf(() -> Database.value(connection, "SELECT 1/0"));
      Database.execute(connection, "INSERT INTO jdbc_tx VALUES (3)");
      connection.commit();
      Database.execute(connection, "INSERT INTO jdbc_tx VALUES (4)");
      connection.rollback();
      Object left = Database.value(connection, "SELECT string_agg(a::text, ',') FROM jdbc_tx");
      return List.of(code, left);
    }
  }

  private Object largeObject() throws Exception {
    try (Connection connection = database.connect()) {
      connection.setAutoCommit(false);
      LargeObjectManager manager = connection.unwrap(PGConnection.class).getLargeObjectAPI();
      byte[] data = "größer".repeat(20_000).getBytes(StandardCharsets.UTF_8);
      long oid = manager.createLO();
      try (LargeObject object = manager.open(oid)) {
        object.write(data);
      }
      byte[] back;
      try (LargeObject object = manager.open(oid)) {
        back = object.read(data.length + 1);
      }
      manager.delete(oid);
      connection.commit();
      return Arrays.equals(data, back);
    }
  }

  private Object metaData() throws Exception {
    try (Connection connection = database.connect()) {
      Set<String> seen = new HashSet<>();
      DatabaseMetaData data = connection.getMetaData();
      try (ResultSet rows = data.getProcedures(null, "public", "pg_background%")) {
        while (rows.next()) seen.add(rows.getString("PROCEDURE_NAME"));
      }
      try (ResultSet rows = data.getFunctions(null, null, "pg_background_result")) {
        while (rows.next()) seen.add(rows.getString("FUNCTION_NAME"));
      }
      return new ArrayList<>(seen);
    }
  }
}
