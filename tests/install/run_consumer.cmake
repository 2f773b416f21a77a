# Installs metro, moves it elsewhere (a package must not remember where it was put), and builds and
# runs a project that knows it only through find_package.
cmake_minimum_required(VERSION 3.25)

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

file(REMOVE_RECURSE ${work_dir})
run(${CMAKE_COMMAND} --install ${metro_build} --prefix ${work_dir}/staged)
file(RENAME ${work_dir}/staged ${work_dir}/prefix)

# Nothing of the build tree, and no dependency that a consumer would have to find, may be exported.
file(GLOB_RECURSE package_files ${work_dir}/prefix/*.cmake)
foreach(file IN LISTS package_files)
  file(READ ${file} text)
  string(REGEX MATCH "${metro_build}|${work_dir}|fmt::|nlohmann|metro_warnings|metro_sanitizers"
    leak "${text}")
  if(leak)
    message(FATAL_ERROR "${file} mentions \"${leak}\"")
  endif()
endforeach()

run(${CMAKE_COMMAND} -S ${source_dir} -B ${work_dir}/build -G ${generator}
  -DCMAKE_CXX_COMPILER=${compiler} -DCMAKE_PREFIX_PATH=${work_dir}/prefix
  -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF -DEXPECT_CUDA=${expect_cuda})
run(${CMAKE_COMMAND} --build ${work_dir}/build)
run(${CMAKE_CTEST_COMMAND} --test-dir ${work_dir}/build --output-on-failure --no-tests=error)
run(${CMAKE_COMMAND} -S ${source_dir}/../c_project -B ${work_dir}/c_build -G ${generator}
  -DCMAKE_CXX_COMPILER=${compiler} -DCMAKE_PREFIX_PATH=${work_dir}/prefix
  -DCMAKE_FIND_USE_PACKAGE_REGISTRY=OFF -DEXAMPLE=${source_dir}/../../../examples/route.c)
run(${CMAKE_COMMAND} --build ${work_dir}/c_build)
run(${CMAKE_CTEST_COMMAND} --test-dir ${work_dir}/c_build --output-on-failure --no-tests=error)
run(${work_dir}/prefix/bin/metro --version)
