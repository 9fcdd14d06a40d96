cmake_language(DEFER DIRECTORY ${CMAKE_SOURCE_DIR} CALL set_target_properties ggml-cpu ggml-base PROPERTIES UNITY_BUILD OFF)
