import java.net.URI;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.PreparedStatement;
import java.sql.ResultSet;
import java.sql.SQLException;
import java.sql.Statement;

/** Where a program connects, and what it does there again and again. */
class Database {
  /** Something that is tried. */
  interface Work {
    Object run() throws Exception;
  }

  private final String url;

  Database(String url) {
    URI uri = URI.create(url);
    String[] login = uri.getUserInfo().split(":");
    this.url =
        "jdbc:postgresql://" + uri.getAuthority().replaceFirst(".*@", "") + uri.getPath()
            + "?user=" + login[0]
            + (login.length > 1 ? "&password=" + login[1] : "")
            + (uri.getQuery() == null ? "" : "&" + uri.getQuery());
  }

  /** A connection, with options of the driver. */
  Connection connect(String... options) throws SQLException {
    StringBuilder all = new StringBuilder(url);
    for (String option : options) all.append('&').append(option);
    return DriverManager.getConnection(all.toString());
  }

  /** The first column of the first row. */
  static Object value(Connection connection, String sql, Object... values)
      throws SQLException {
    try (PreparedStatement statement = connection.prepareStatement(sql)) {
      for (int i = 0; i < values.length; i++) statement.setObject(i + 1, values[i]);
      try (ResultSet rows = statement.executeQuery()) {
        return rows.next() ? rows.getObject(1) : null;
      }
    }
  }

  /** Runs statements that give nothing. */
  static void execute(Connection connection, String sql) throws SQLException {
    try (Statement statement = connection.createStatement()) {
      statement.execute(sql);
    }
  }

  /** The SQLSTATE of what must fail. */
  static String codeOf(Work work) throws Exception {
    try {
      work.run();
    } catch (SQLException error) {
      return error.getSQLState();
    }
    throw new IllegalStateException("nothing failed");
  }

  /** Waits, in a session of its own, until another is in the middle of a statement with a text. */
  void whenRunning(int pid, String text) throws SQLException {
    try (Connection other = connect()) {
      String sql =
          "SELECT count(*) FROM pg_stat_activity"
              + " WHERE pid = ? AND state = 'active' AND query LIKE ?";
      while (((Long) value(other, sql, pid, "%" + text + "%")) == 0L) {}
    }
  }
}
