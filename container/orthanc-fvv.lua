-- Orthanc sends the MR series of each study to fvv as soon as no object of the study came for "StableAge" seconds.
-- In orthanc.json: "LuaScripts" : [ "/etc/orthanc/orthanc-fvv.lua" ],
--                  "DicomModalities" : { "fvv" : [ "FVV", "127.0.0.1", 11112 ] }
-- The results that come back make the study stable once more: fvv knows that it has answered it, and does nothing.
function OnStableStudy(studyId, tags, metadata)
  local found = {}
  for _, one in ipairs(ParseJson(RestApiGet('/studies/' .. studyId .. '/series', false))) do
    if one['MainDicomTags']['Modality'] == 'MR' then
      table.insert(found, one['ID'])
    end
  end
  if #found > 0 then
    RestApiPost('/modalities/fvv/store', DumpJson({ Resources = found, Synchronous = false, Permissive = true }), false)
  end
end
