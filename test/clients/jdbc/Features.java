import java.nio.charset.StandardCharsets;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** Runs one feature of the driver: `java Features URL FEATURE`, and prints its result as JSON. */
public class Features {
  public static void main(String[] arguments) throws Exception {
    Database database = new Database(arguments[0]);
    Map<String, Database.Work> all = new LinkedHashMap<>();
    all.putAll(new StatementFeatures(database).all());
    all.putAll(new SessionFeatures(database).all());
    all.putAll(new WorkerFeatures(database).all());
    Database.Work feature = all.get(arguments[1]);
    if (feature == null) throw new IllegalArgumentException("no feature " + arguments[1]);
    System.out.write((json(feature.run()) + "\n").getBytes(StandardCharsets.UTF_8));
    System.out.flush();
  }

  private static String json(Object value) {
    if (value instanceof List)
      return ((List<?>) value)
          .stream().map(Features::json).toList().toString();
    if (value instanceof String)
      return '"' + ((String) value).replace("\\", "\\\\").replace("\"", "\\\"") + '"';
    return String.valueOf(value);
  }
}
