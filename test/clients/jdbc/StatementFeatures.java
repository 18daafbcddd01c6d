import java.math.BigDecimal;
import java.sql.BatchUpdateException;
import java.sql.CallableStatement;
import java.sql.Connection;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.Statement;
import java.sql.Types;
import java.time.OffsetDateTime;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** How the driver runs statements and reads their rows. */
class StatementFeatures {
  private final Database database;

  StatementFeatures(Database database) {
    this.database = database;
  }

  Map<String, Database.Work> all() {
    Map<String, Database.Work> all = new LinkedHashMap<>();
    all.put("setFetchSize", this::fetchSize);
    all.put("binary transfer", this::binaryTransfer);
    all.put("prepareThreshold", this::prepareThreshold);
    all.put("batches", () -> batch("jdbc_batch"));
    all.put("reWriteBatchedInserts", () -> batch("jdbc_rewritten", "reWriteBatchedInserts=true"));
    all.put("callable functions and procedures", this::callable);
    all.put("refcursor", this::refCursor);
    all.put("preferQueryMode=simple", this::simpleMode);
    return all;
  }

  private Object fetchSize() throws Exception {
    try (Connection connection = database.connect()) {
      connection.setAutoCommit(false);
      long sum = 0;
      try (Statement statement = connection.createStatement()) {
        statement.setFetchSize(50);
        try (ResultSet rows = statement.executeQuery("SELECT generate_series(1, 1000)")) {
          while (rows.next()) sum += rows.getInt(1);
        }
        // Given up in the middle.
        try (ResultSet rows = statement.executeQuery("SELECT generate_series(1, 1000000)")) {
          rows.next();
        }
      }
      connection.commit();
      return List.of(sum, Database.value(connection, "SELECT 1"));
    }
  }

  private Object binaryTransfer() throws Exception {
    Integer[] array = {1, 2, null};
    OffsetDateTime time = OffsetDateTime.parse("2024-02-29T12:00:00Z");
    try (Connection connection = database.connect("prepareThreshold=-1", "binaryTransfer=true");
        PreparedStatement statement =
            connection.prepareStatement(
                "SELECT ?::int8, ?::text, ?::bytea, ?::numeric,"
                    + " ?::timestamptz, ?::float8, ?::bool, ?::int[]")) {
      for (int round = 0; round < 3; round++) {
        statement.setLong(1, 42L);
        statement.setString(2, "größer");
        statement.setBytes(3, new byte[] {0, -1});
        statement.setBigDecimal(4, new BigDecimal("1.50"));
        statement.setObject(5, time);
        statement.setDouble(6, 1.5);
        statement.setBoolean(7, true);
        statement.setArray(8, connection.createArrayOf("int4", array));
        try (ResultSet row = statement.executeQuery()) {
          row.next();
          boolean isSame =
              row.getLong(1) == 42L
                  && row.getString(2).equals("größer")
                  && Arrays.equals(row.getBytes(3), new byte[] {0, -1})
                  && row.getBigDecimal(4).equals(new BigDecimal("1.50"))
                  && row.getObject(5, OffsetDateTime.class).isEqual(time)
                  && row.getDouble(6) == 1.5
                  && row.getBoolean(7)
                  && Arrays.equals((Integer[]) row.getArray(8).getArray(), array);
          if (!isSame) return "round " + round;
        }
      }
      return Database.value(connection, "SELECT count(*) > 0 FROM pg_prepared_statements");
    }
  }

  private Object prepareThreshold() throws Exception {
    try (Connection connection = database.connect("prepareThreshold=2");
        PreparedStatement statement = connection.prepareStatement("SELECT ?::int * 2")) {
      List<Object> seen = new ArrayList<>();
      for (int i = 0; i < 6; i++) {
        statement.setInt(1, i);
        try (ResultSet row = statement.executeQuery()) {
          row.next();
          seen.add(row.getInt(1));
        }
      }
      seen.add(
          Database.value(
              connection,
              "SELECT count(*) FROM pg_prepared_statements WHERE statement LIKE '%* 2'"));
      return seen;
    }
  }

  private Object batch(String table, String... options) throws Exception {
    try (Connection connection = database.connect(options)) {
      Database.execute(connection, "CREATE TABLE " + table + " (a int PRIMARY KEY, b text)");
      String insert = "INSERT INTO " + table + " (a, b) VALUES (?, ?)";
      int counted = 0;
      try (PreparedStatement statement = connection.prepareStatement(insert)) {
        for (int i = 0; i < 3000; i++) {
          statement.setInt(1, i);
          statement.setString(2, "row " + i);
          statement.addBatch();
        }
        counted = statement.executeBatch().length;
      }
      String code;
      try (PreparedStatement statement = connection.prepareStatement(insert)) {
        for (int i : new int[] {5001, 1, 5002}) {
          statement.setInt(1, i);
          statement.setString(2, "again");
          statement.addBatch();
        }
        code =
            Database.codeOf(
                () -> {
                  try {
                    return statement.executeBatch();
                  } catch (BatchUpdateException error) {
                    throw error.getNextException() == null ? error : error.getNextException();
                  }
                });
      }
      return List.of(counted, code, Database.value(connection, "SELECT count(*) FROM " + table));
    }
  }

  private Object callable() throws Exception {
    try (Connection connection = database.connect("escapeSyntaxCallMode=callIfNoReturn")) {
      Database.execute(
          connection,
          "CREATE FUNCTION jdbc_add(a int, b int) RETURNS int LANGUAGE sql AS 'SELECT a + b';"
              + "CREATE PROCEDURE jdbc_double(INOUT a int) LANGUAGE plpgsql AS "
              + "'BEGIN a := a * 2; COMMIT; END'");
      List<Object> seen = new ArrayList<>();
      try (CallableStatement call = connection.prepareCall("{? = call jdbc_add(?, ?)}")) {
        call.registerOutParameter(1, Types.INTEGER);
        call.setInt(2, 40);
        call.setInt(3, 2);
        call.execute();
        seen.add(call.getInt(1));
      }
      try (CallableStatement call = connection.prepareCall("{call jdbc_double(?)}")) {
        call.setInt(1, 21);
        call.registerOutParameter(1, Types.INTEGER);
        call.execute();
        seen.add(call.getInt(1));
      }
      return seen;
    }
  }

  private Object refCursor() throws Exception {
    try (Connection connection = database.connect()) {
      Database.execute(
          connection,
          "CREATE FUNCTION jdbc_cursor() RETURNS refcursor LANGUAGE plpgsql AS "
              + "'DECLARE c refcursor; "
              + "BEGIN OPEN c FOR SELECT generate_series(1, 5); RETURN c; END'");
      connection.setAutoCommit(false);
      try (CallableStatement call = connection.prepareCall("{? = call jdbc_cursor()}")) {
        call.registerOutParameter(1, Types.REF_CURSOR);
        call.execute();
        int sum = 0;
        try (ResultSet rows = (ResultSet) call.getObject(1)) {
          while (rows.next()) sum += rows.getInt(1);
        }
        return sum;
      }
    }
  }

  private Object simpleMode() throws Exception {
    try (Connection connection = database.connect("preferQueryMode=simple")) {
      return List.of(
          Database.value(connection, "SELECT ? + 1", 41),
          Database.value(connection, "SELECT ?", "o'clock \\"));
    }
  }
}
