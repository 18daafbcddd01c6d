import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.sql.Timestamp;
import java.sql.Types;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Workers, as a program in Java launches and reads them. */
class WorkerFeatures {
  private final Database database;

  WorkerFeatures(Database database) {
    this.database = database;
  }

  Map<String, Database.Work> all() {
    Map<String, Database.Work> all = new LinkedHashMap<>();
    all.put("a worker and its result", this::worker);
    all.put("a worker and its result, binary", this::workerBinary);
    all.put("a worker by a callable function", this::workerCallable);
    all.put("a worker's rows by setFetchSize", this::workerFetchSize);
    all.put("a timeout while it waits for a worker", this::workerTimeout);
    return all;
  }

  private Object worker() throws Exception {
    try (Connection connection = database.connect()) {
      int pid =
          (Integer)
              Database.value(
                  connection,
                  "SELECT pg_background_launch(?)",
                  "SELECT i, i * 1.5 FROM generate_series(1, 3) AS i");
      List<Object> rows = new ArrayList<>();
      try (PreparedStatement statement =
          connection.prepareStatement(
              "SELECT * FROM pg_background_result(?) AS (x int, y numeric)")) {
        statement.setInt(1, pid);
        try (ResultSet result = statement.executeQuery()) {
          while (result.next())
            rows.add(List.of(result.getInt("x"), result.getBigDecimal("y").toString()));
        }
      }
      return rows;
    }
  }

  private Object workerBinary() throws Exception {
    try (Connection connection = database.connect("prepareThreshold=-1");
        PreparedStatement launch =
            connection.prepareStatement("SELECT * FROM pg_background_launch_v2(?)");
        PreparedStatement result =
            connection.prepareStatement(
                "SELECT * FROM pg_background_result_v2(?, ?) AS (a int, b text, c timestamptz)")) {
      List<Object> seen = new ArrayList<>();
      for (int i = 0; i < 3; i++) {
        launch.setString(1, "SELECT " + i + ", 'größer', now()");
        try (ResultSet handle = launch.executeQuery()) {
          handle.next();
          result.setInt(1, handle.getInt("pid"));
          result.setLong(2, handle.getLong("cookie"));
        }
        try (ResultSet row = result.executeQuery()) {
          row.next();
          Timestamp time = row.getTimestamp("c");
          seen.add(List.of(row.getInt("a"), row.getString("b"), time != null));
        }
      }
      return seen;
    }
  }

  private Object workerCallable() throws Exception {
    try (Connection connection = database.connect();
        CallableStatement call = connection.prepareCall("{? = call pg_background_launch(?)}")) {
      call.registerOutParameter(1, Types.INTEGER);
      call.setString(2, "SELECT 42");
      call.execute();
      return Database.value(
          connection, "SELECT x FROM pg_background_result(?) AS (x int)", call.getInt(1));
    }
  }

  private Object workerFetchSize() throws Exception {
    try (Connection connection = database.connect()) {
      connection.setAutoCommit(false);
      int pid =
          (Integer)
              Database.value(
                  connection, "SELECT pg_background_launch('SELECT generate_series(1, 1000)')");
      long sum = 0;
      try (PreparedStatement statement =
          connection.prepareStatement("SELECT * FROM pg_background_result(?) AS (x int)")) {
        statement.setFetchSize(50);
        statement.setInt(1, pid);
        try (ResultSet rows = statement.executeQuery()) {
          while (rows.next()) sum += rows.getInt(1);
        }
      }
      connection.commit();
      return sum;
    }
  }

  private Object workerTimeout() throws Exception {
    String result = "SELECT x FROM pg_background_result_v2(?, ?) AS (x int)";
    try (Connection connection = database.connect();
        PreparedStatement read = connection.prepareStatement(result)) {
      try (Statement statement = connection.createStatement();
          ResultSet handle =
              statement.executeQuery(
                  "SELECT * FROM pg_background_launch_v2('SELECT 42 FROM pg_sleep(60)')")) {
        handle.next();
        read.setInt(1, handle.getInt("pid"));
        read.setLong(2, handle.getLong("cookie"));
      }
      read.setQueryTimeout(1);
      List<Object> seen = new ArrayList<>();
      seen.add(Database.codeOf(read::executeQuery));
      for (String function : List.of("cancel_v2", "wait_v2"))
        Database.value(
            connection,
            "SELECT pg_background_"
                + function
                + "(pid, cookie) FROM pg_background_list_v2() AS (pid int, cookie bigint)");
      read.setQueryTimeout(0);
      seen.add(Database.codeOf(read::executeQuery));
      return seen;
    }
  }
}
