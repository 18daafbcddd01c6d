LOOP
    BEGIN
      RETURN QUERY EXECUTE pgbackground.probe(types);
      EXIT;
    EXCEPTION
      WHEN datatype_mismatch THEN
        GET STACKED DIAGNOSTICS complaint = PG_EXCEPTION_DETAIL;
      WHEN feature_not_supported THEN
        RAISE EXCEPTION USING ERRCODE = 'feature_not_supported',
          MESSAGE = 'function returning record called in context that cannot accept type record',
          HINT = 'Call it in FROM with a column definition list.';
    END;
    types := pgbackground.adopt(type_oids, types, complaint, may_be_shorter, refusal);
  END LOOP;
